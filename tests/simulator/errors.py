"""What the API refuses, as exceptions that carry the whole answer."""

from typing import Any


class ApiError(Exception):
    """Answered as ``{"error": {code, message, details}}``; with an empty *code* as a page of HTML."""

    def __init__(self, status: int, code: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, details

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message, "details": self.details}}


class SchemaError(Exception):
    """A request or a response that the schema does not allow: a mistake of its author."""


def not_found(what: str, which: object) -> ApiError:
    return ApiError(404, "not_found", f"{what} with ID '{which}' not found")


def invalid(message: str, *fields: str) -> ApiError:
    """422 invalid_input; the *fields* are named in the details, which are empty without any."""
    details = {"fields": [{"name": each, "messages": [message]} for each in fields]} if fields else {}
    return ApiError(422, "invalid_input", message, details)


def taken(message: str, *fields: str) -> ApiError:
    details = {"fields": [{"name": each} for each in fields]} if fields else {}
    return ApiError(409, "uniqueness_error", message, details)


def refused(code: str, message: str) -> ApiError:
    """422 with a *code* of the operation's own."""
    return ApiError(422, code, message)


def locked(what: str) -> ApiError:
    return ApiError(423, "locked", f"cannot perform operation because {what} is locked")


def protected(what: str) -> ApiError:
    return ApiError(423, "protected", f"{what} is protected from deletion")
