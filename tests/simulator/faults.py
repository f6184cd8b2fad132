"""Named faults, each scripted: what goes wrong, where, and how many times (None: until cleared).

Operations are written as in the schema, ``POST /servers``, and may be patterns: ``PUT /*``.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Literal

from tests.simulator.errors import ApiError

WORDS = {
    "action_failed": "Action failed",
    "bad_gateway": "bad gateway",
    "conflict": "multiple requests are trying to change the resource at the same time",
    "deprecated_api_endpoint": "the API endpoint was removed",
    "forbidden": "insufficient permissions for this request",
    "locked": "cannot perform operation because server is locked",
    "maintenance": "the service is under maintenance",
    "placement_error": "error during placement",
    "resource_unavailable": "error during placement",
    "server_error": "internal server error",
    "service_error": "an error occurred in a service",
    "timeout": "the request could not be answered in time",
    "unauthorized": "unable to authenticate",
    "unavailable": "the service is temporarily unavailable",
    "unknown_error": "server is locked",
}
CODES = {
    401: "unauthorized",
    403: "forbidden",
    409: "conflict",
    410: "deprecated_api_endpoint",
    412: "resource_unavailable",
    423: "locked",
    429: "rate_limit_exceeded",
    500: "server_error",
    503: "unavailable",
    504: "timeout",
}
KINDS = ("conflict", "bad_gateway", "timeout", "unavailable", "reset", "placement", "action")


class Loss(StrEnum):
    """How a reply is lost."""

    RESET = "reset"  # the connection is cut
    TIMEOUT = "timeout"  # nothing comes until the client gives up


@dataclass
class Rule:
    """One fault; ``times`` counts down, and of ``chance`` < 1 the dice decide."""

    kind: str
    pattern: str
    effect: Any
    times: int | None = None
    chance: float = 1.0
    seed: object = 0


class Faults:
    """What is to go wrong. Methods may be called at any time, also between two requests of a test."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._throws: Counter[tuple[object, ...]] = Counter()
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Let nothing go wrong any more; dice begin anew."""
        with self._lock:
            self._rules.clear()
            self._throws.clear()

    # Capacity

    def unavailable(self, server_type: str = "*", location: str = "*", times: int | None = None) -> None:
        """Answer 412 resource_unavailable to creations; the type still says that it is available."""
        error = ApiError(412, "resource_unavailable", WORDS["resource_unavailable"])
        self._add("placement", f"{server_type}/{location}", error, times)

    def sold_out(self, server_type: str = "*", location: str = "*") -> None:
        """As :meth:`unavailable`, and the type says so."""
        self.unavailable(server_type, location)
        self._add("sold out", f"{server_type}/{location}", True, None)

    def location_disabled(self, location: str, times: int | None = None) -> None:
        error = ApiError(412, "resource_unavailable", "server location disabled", {})
        self._add("placement", f"*/{location}", error, times)

    def unsupported_location(self, server_type: str, location: str, times: int | None = None) -> None:
        error = ApiError(422, "invalid_input", "unsupported location for server type", {})
        self._add("placement", f"{server_type}/{location}", error, times)

    def placement_full(self, group: str = "*", times: int | None = None) -> None:
        """Let placement groups say that they have ten members, whatever they show."""
        self._add("group full", group, True, times)

    # Connections and replies

    def status(
        self,
        operation: str,
        status: int,
        times: int | None = 1,
        code: str | None = None,
        *,
        message: str | None = None,
        probability: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Answer *operation* with an error before anything happens; 502 without *code* is a page of HTML."""
        self._add("reply", operation, _reply(status, code, message), times, chance=probability, seed=seed)

    def conflict(self, probability: float, operation: str = "*", seed: int = 0) -> None:
        """Answer 409 conflict to changes, as the dice say."""
        self.status(operation, 409, None, probability=probability, seed=seed)

    def lose_reply(
        self, operation: str, times: int | None = 1, after: Literal["reset", "timeout"] = "reset"
    ) -> None:
        """Do what is asked, and lose the answer."""
        self._add("lose", operation, Loss(after), times)

    def refuse_connection(self, operation: str = "*", times: int | None = 1) -> None:
        """Cut the connection before anything happens."""
        self._add("refuse", operation, True, times)

    def slow(self, operation: str, seconds: float, times: int | None = None) -> None:
        """Begin *operation* only after *seconds* of real time."""
        self._add("slow", operation, seconds, times)

    def token_in_message(self) -> None:
        """Let 429 name the token, as the API does since 2026."""
        self._add("token", "*", True, None)

    # Resources and their actions

    def action_error(
        self, command: str, code: str = "action_failed", times: int | None = 1, *, server: str = "*"
    ) -> None:
        """Let an action, of one server or of any resource, end in an error, without its effect."""
        self._add("failure", f"{command}/{server}", (code, WORDS.get(code, code)), times)

    def action_stuck(self, command: str, seconds: float, times: int | None = 1, *, server: str = "*") -> None:
        """Let an action run longer by *seconds* of the simulator's clock."""
        self._add("stuck", f"{command}/{server}", seconds, times)

    def locked(self, server: str = "*", times: int | None = None) -> None:
        """Let a server be locked, with no action to be seen, until it has refused *times* changes."""
        self._add("locked", server, True, times)

    def zombie_firewall(self, name: str = "*", times: int | None = None) -> None:
        """Let a firewall be in use although its servers are gone."""
        self._add("zombie", name, True, times)

    # Dice

    def random(self, seed: int, rate: float, kinds: Sequence[str] = KINDS) -> None:
        """Let each request and action meet one of *kinds* with probability *rate*.

        The dice are thrown per operation, name or path, and attempt, so that the order in which parallel
        requests arrive changes little.
        """
        unknown = set(kinds) - set(KINDS)
        assert not unknown, unknown
        share = rate / max(1, len(set(kinds) - {"placement", "action"}))
        replies = {"conflict": 409, "bad_gateway": 502, "timeout": 504, "unavailable": 503}
        for kind in kinds:
            if kind in replies:
                self._add("reply", "*", _reply(replies[kind], None), None, chance=share, seed=(seed, kind))
            elif kind == "reset":
                self._add("lose", "*", Loss.RESET, None, chance=share, seed=(seed, kind))
            elif kind == "placement":
                error = ApiError(412, "resource_unavailable", WORDS["resource_unavailable"])
                self._add("placement", "*", error, None, chance=rate, seed=(seed, kind))
            else:
                failure = ("action_failed", WORDS["action_failed"])
                self._add("failure", "start_server/*", failure, None, chance=rate, seed=(seed, kind))
                self._add("failure", "apply_firewall/*", failure, None, chance=rate, seed=(seed, "firewall"))

    # What the simulator asks

    def reply(self, operation: str, subject: str) -> ApiError | None:
        """The error to answer with; 409 happens to changes alone."""
        reading = operation.startswith("GET ")
        error: ApiError | None = self._take(
            "reply", operation, subject, lambda it: not (reading and it.status == 409)
        )
        return error

    def loss(self, operation: str, subject: str) -> Loss | None:
        loss: Loss | None = self._take("lose", operation, subject)
        return loss

    def refused(self, operation: str) -> bool:
        return bool(self._take("refuse", operation))

    def delay(self, operation: str) -> float:
        return float(self._take("slow", operation) or 0)

    def tells_token(self) -> bool:
        return bool(self._take("token", "*"))

    def placement(self, server_type: str, location: str, name: str) -> ApiError | None:
        error: ApiError | None = self._take("placement", f"{server_type}/{location}", name)
        return error

    def is_sold_out(self, server_type: str, location: str) -> bool:
        return bool(self._take("sold out", f"{server_type}/{location}"))

    def group_full(self, group: str) -> bool:
        return bool(self._take("group full", group))

    def failure(self, command: str, server: str) -> tuple[str, str] | None:
        failure: tuple[str, str] | None = self._take("failure", f"{command}/{server}")
        return failure

    def stuck(self, command: str, server: str) -> float:
        return float(self._take("stuck", f"{command}/{server}") or 0)

    def refuses(self, server: str) -> bool:
        return bool(self._take("locked", server))

    def shows_locked(self, server: str) -> bool:
        return any(
            rule.kind == "locked" and rule.times != 0 and fnmatchcase(server, rule.pattern)
            for rule in self._rules
        )

    def is_zombie(self, firewall: str) -> bool:
        return bool(self._take("zombie", firewall))

    def _add(
        self,
        kind: str,
        pattern: str,
        effect: Any,
        times: int | None,
        *,
        chance: float = 1.0,
        seed: object = 0,
    ) -> None:
        with self._lock:
            self._rules.append(Rule(kind, pattern, effect, times, chance, seed))

    def _take(
        self, kind: str, subject: str, detail: str = "", fits: Callable[[Any], bool] = lambda _: True
    ) -> Any:
        with self._lock:
            for rule in self._rules:
                if (
                    rule.kind == kind
                    and rule.times != 0
                    and fnmatchcase(subject, rule.pattern)
                    and fits(rule.effect)
                    and self._thrown(rule, subject, detail)
                ):
                    rule.times = None if rule.times is None else rule.times - 1
                    return rule.effect
        return None

    def _thrown(self, rule: Rule, subject: str, detail: str) -> bool:
        if rule.chance >= 1:
            return True
        throw = (rule.seed, rule.kind, subject, detail)
        self._throws[throw] += 1
        return random.Random(f"{throw} {self._throws[throw]}").random() < rule.chance


def _reply(status: int, code: str | None, message: str | None = None) -> ApiError:
    code = code or CODES.get(status, "")
    return ApiError(status, code, message or WORDS.get(code, code))
