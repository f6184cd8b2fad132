"""The ASGI application: what happens to a request from its arrival to its reply.

Connection faults, then the bucket of requests, the token, scripted replies, the schema, the route, and the
schema again. Only then may the reply be lost.
"""

import asyncio
import contextlib
import json
import socket
import struct
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.simulator import machines, routes, schema
from tests.simulator.errors import ApiError, SchemaError
from tests.simulator.faults import WORDS, Loss
from tests.simulator.routes.call import Call
from tests.simulator.state import Json
from tests.simulator.world import World

BASE = "/v1"
LONGEST_HOLD = 600  # seconds; no client of a test waits longer for a reply that does not come
LOST = 0  # the status in the log of a reply that was never sent


@dataclass
class Tokens:
    read_write: str
    read_only: str


@dataclass
class App:
    """``requests`` counts by operation; ``violations`` are sentences about requests and responses."""

    world: World
    tokens: Tokens
    validate: bool = True
    requests: Counter[str] = field(default_factory=Counter)
    log: list[tuple[float, float, str, int]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        arrived = time.monotonic()
        request = Request(scope, receive)
        body = await request.body()
        found = routes.find(request.method, _path(request))
        operation = found[0] if found else f"{request.method} {_path(request)}"
        self.requests[operation] += 1
        faults = self.world.faults
        if faults.refused(operation):
            _cut(scope)
            self._note(arrived, operation, LOST)
            return
        if seconds := faults.delay(operation):
            await asyncio.sleep(seconds)
        with self.world.lock:
            self.world.settle()
            machines.enforce(self.world)
            response = self._answer(request, body, found)
            if self.world.hosts:
                self.world.settle()  # machines do not wait for the next look
        if loss := faults.loss(operation, _subject(request, body)):
            await _lose(loss, scope, receive)
            self._note(arrived, operation, LOST)
            return
        self._note(arrived, operation, response.status_code)  # so that whoever has the reply finds it noted
        await response(scope, receive, send)

    def _note(self, arrived: float, operation: str, status: int) -> None:
        self.log.append((arrived, time.monotonic(), operation, status))

    def _answer(self, request: Request, body: bytes, found: tuple[str, dict[str, str]] | None) -> Response:
        world = self.world
        granted = world.take_token()
        operation = found[0] if found else f"{request.method} {_path(request)}"
        try:
            if not granted:
                raise self._too_many(request)
            self._authorize(request)
            if refusal := world.faults.reply(operation, _subject(request, body)):
                raise self._too_many(request) if refusal.status == 429 else refusal
            if found is None:
                self.violations.append(f"{operation} is not simulated")
                raise ApiError(404, "not_found", f"{operation} not found")
            status, answer = self._handled(request, body, *found)
        except ApiError as error:
            if not error.code:
                return self._response(error.status, f"<html><h1>{error.status}</h1></html>")
            status, answer = error.status, error.body
        except SchemaError as error:
            self.violations.append(str(error))
            status, answer = 500, ApiError(500, "server_error", str(error)).body
        except Exception as error:
            self.violations.append(f"{operation} broke the simulator: {traceback.format_exc()}")
            status, answer = 500, ApiError(500, "server_error", repr(error)).body
        return self._response(status, answer)

    def _handled(
        self, request: Request, body: bytes, operation: str, path: dict[str, str]
    ) -> tuple[int, Json | None]:
        query = parse_qs(request.url.query, keep_blank_values=True)
        try:
            sent = json.loads(body) if body else None
        except ValueError:
            raise ApiError(400, "json_error", "the body is no JSON") from None
        if self.validate:
            schema.check_query(operation, query)
            schema.check_request(operation, sent)
        call = Call(self.world, operation, path, query, sent or {})
        status, answer = routes.TABLE[operation](call)
        if self.validate:
            schema.check_response(operation, status, answer)
        return status, answer

    def _authorize(self, request: Request) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in (self.tokens.read_write, self.tokens.read_only):
            raise ApiError(401, "unauthorized", WORDS["unauthorized"])
        if token == self.tokens.read_only and request.method != "GET":
            raise ApiError(403, "token_readonly", "the token may read only")

    def _too_many(self, request: Request) -> ApiError:
        limit = self.world.limits.requests_per_hour
        message = f"limit of {limit} requests per hour reached"
        if self.world.faults.tells_token():
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            message = f"Limit of '{limit}' requests per hour for token '{token}' reached."
        return ApiError(429, "rate_limit_exceeded", message)

    def _response(self, status: int, answer: Json | str | None) -> Response:
        headers = self.world.rate_headers() | {"X-Correlation-Id": f"{self.world.dice.getrandbits(64):016x}"}
        if answer is None:
            return Response(status_code=status, headers=headers)
        if isinstance(answer, str):
            return Response(answer, status, headers, "text/html")
        if links := _links(answer):
            headers["Link"] = links
        return Response(json.dumps(answer), status, headers, "application/json")


def _path(request: Request) -> str:
    return unquote(request.url.path).removeprefix(BASE)


def _subject(request: Request, body: bytes) -> str:
    """What tells one request from another of the same operation: the name in its body, or its path."""
    with contextlib.suppress(ValueError, AttributeError):
        if name := json.loads(body).get("name"):
            return str(name)
    return _path(request)


def _links(answer: Json) -> str:
    pages = answer.get("meta", {}).get("pagination", {})
    kinds = {"prev": "previous_page", "next": "next_page", "last": "last_page"}
    return ", ".join(f'<?page={pages[key]}>; rel="{kind}"' for kind, key in kinds.items() if pages.get(key))


async def _lose(loss: Loss, scope: Scope, receive: Receive) -> None:
    """Cut the connection, or leave the client without an answer until it goes away."""
    if loss is Loss.TIMEOUT:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_HOLD):
                while (await receive())["type"] != "http.disconnect":
                    pass
    _cut(scope)


def _cut(scope: Scope) -> None:
    transport = scope["state"]["transport"]
    plug: socket.socket = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
