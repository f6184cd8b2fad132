"""Every request and every response against the OpenAPI schema of the API.

An object may hold only what the schema names, on both sides: a misspelt key is found here, and so is one that
the API no longer has. Named schemas remember what they found right, since most answers say again what was
said before.

What a user could have typed (a text too long, a number too large) is not the client's mistake: the API
answers it with 422, and so do we.
"""

import functools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from tests.simulator.errors import SchemaError, invalid

Json = dict[str, Any]

_BOUNDS = {"maxLength", "minLength", "pattern", "maxItems", "minItems", "maximum", "minimum"}
_MOST_REMEMBERED = 20_000


@functools.cache
def spec() -> Json:
    """The schema, with what is not in it yet: primary IPs of August 2026, snapshots named by their ids."""
    found: Json = json.loads(Path(__file__).with_name("schema.json").read_text())
    _adopt_primary_ips_of_today(found)
    rollback = found["components"]["schemas"]["rollback_snapshot_request"]["properties"]
    rollback["snapshot"] = {"type": ["integer", "string"]}
    return found


def _adopt_primary_ips_of_today(node: Any) -> None:
    """A primary IP has no datacenter, and its ``assignee_type`` may be ``unassigned`` or left out."""
    if isinstance(node, dict):
        properties = node.get("properties", {})
        if isinstance(properties, dict) and "assignee_type" in properties:
            properties["assignee_type"] = {"type": "string", "enum": ["server", "unassigned"]}
            properties.pop("datacenter", None)
            wanted = node.get("required", [])
            dropped = {"datacenter"} if "dns_ptr" in properties else {"datacenter", "assignee_type"}
            node["required"] = [each for each in wanted if each not in dropped]
        for each in node.values():
            _adopt_primary_ips_of_today(each)
    elif isinstance(node, list):
        for each in node:
            _adopt_primary_ips_of_today(each)


def check_request(operation: str, body: Any) -> None:
    """Raise unless *body*, None without one, is what *operation* takes.

    Raises:
        SchemaError: its shape is wrong.
        ApiError: 422, a value of it is out of its bounds.
    """
    validator = _request_validator(operation)
    if validator is None:
        if body:
            raise SchemaError(f"{operation} takes no body, got {body}")
        return
    for error in _errors(validator, {} if body is None else body):
        if error.validator in _BOUNDS:
            name = next((str(each) for each in error.absolute_path), "body")
            raise invalid(f"{name} is out of bounds: {error.validator} {error.validator_value}", name)
        raise SchemaError(f"request {operation}: {_said(error)}")


def check_query(operation: str, query: dict[str, list[str]]) -> None:
    """Raise SchemaError for a parameter *operation* does not have, 422 for a value it does not take."""
    known = _parameters(operation)
    for name, values in query.items():
        if name not in known:
            raise SchemaError(f"request {operation}: there is no parameter {name}")
        schema = known[name].get("items", known[name])
        for value in values:
            if schema.get("type") == "integer" and not value.isdigit():
                raise invalid(f"{name} must be a number, got {value!r}", name)
            if set(value.split(",")) - set(schema.get("enum", value.split(","))):
                raise invalid(f"{name} cannot be {value!r}", name)


def check_response(operation: str, status: int, body: Any) -> None:
    validator = _response_validator(operation, status)
    if isinstance(validator, str):
        raise SchemaError(f"response {operation}: {validator}")
    if (validator is None) != (body is None):
        raise SchemaError(f"response {operation} {status}: a body where none belongs, or none")
    if validator is not None:
        for error in _errors(validator, body):
            raise SchemaError(f"response {operation} {status}: {_said(error)}")


def _operation(operation: str) -> Json | None:
    method, path = operation.split(" ", 1)
    found: Json | None = spec()["paths"].get(path, {}).get(method.lower())
    return found


@functools.cache
def _parameters(operation: str) -> dict[str, Json]:
    parameters = (_operation(operation) or {}).get("parameters", [])
    return {each["name"]: each["schema"] for each in parameters if each["in"] == "query"}


@functools.cache
def _request_validator(operation: str) -> Any:
    body = (_operation(operation) or {}).get("requestBody")
    return _Validator(body["content"]["application/json"]["schema"]) if body else None


@functools.cache
def _response_validator(operation: str, status: int) -> Any:
    if status >= 400:
        return _Validator({"$ref": "#/components/schemas/error_response"})
    known = _operation(operation)
    if known is None or str(status) not in known["responses"]:
        return f"{status} is not among its answers"
    content = known["responses"][str(status)].get("content")
    return _Validator(content["application/json"]["schema"]) if content else None


def _errors(validator: Any, instance: Any) -> list[jsonschema.ValidationError]:
    with _lock:
        return sorted(validator.iter_errors(instance), key=lambda error: error.validator in _BOUNDS)


def _said(error: jsonschema.ValidationError) -> str:
    where = "/".join(str(each) for each in error.absolute_path)
    return f"{where or 'body'}: {error.message[:300]}"


_lock = threading.Lock()
_right: set[tuple[str, int]] = set()


def _reference(validator: Any, reference: str, instance: Any, _: Any) -> Iterator[jsonschema.ValidationError]:
    known = (reference, hash(json.dumps(instance)))
    if known in _right:
        return
    named = spec()["components"]["schemas"][reference.rpartition("/")[2]]
    wrong = False
    for error in validator.descend(instance, named):
        wrong = True
        yield error
    if not wrong:
        if len(_right) > _MOST_REMEMBERED:
            _right.clear()
        _right.add(known)


def _properties(
    validator: Any, properties: Json, instance: Any, schema: Json
) -> Iterator[jsonschema.ValidationError]:
    if not isinstance(instance, dict):
        return
    for name, value in instance.items():
        if name in properties:
            yield from validator.descend(value, properties[name], path=name, schema_path=name)
        elif "additionalProperties" not in schema:
            yield jsonschema.ValidationError(f"there is no property {name!r}")


_Validator: Any = extend(  # type: ignore[no-untyped-call]  # its stubs say nothing
    Draft202012Validator, {"$ref": _reference, "properties": _properties}
)
