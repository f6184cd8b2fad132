"""A WebDAV server: its requests, and each of its answers as a value or as one of our errors.

RFC 4918 names the methods; what real servers make of them, and which answers mean what, was measured on
Apache's mod_dav and on WsgiDAV.
"""

import contextlib
import logging
import queue
import time
import uuid
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit
from xml.etree import ElementTree as ET

import httpx
import tenacity

from morpheus.errors import (
    RegistryBrokenError,
    RegistryConflictError,
    StoreBusyError,
    TransientError,
    UnreachableError,
)

log = logging.getLogger("morpheus.registry")

TIMEOUT = 10.0  # seconds between two parts of an answer
LONGEST = 30.0  # seconds for all parts of its body
SLOW = 2.0  # seconds after which a person hears of a failed try
LARGEST = 64 * 2**20  # bytes of it
CONNECTIONS = 2  # a Storage Box allows ten to all devices together
READ_TRIES, READ_PATIENCE = 4, 15.0  # of a request that changes nothing: times, and seconds for another try

_LIST = b'<?xml version="1.0"?><propfind xmlns="DAV:"><prop><getlastmodified/></prop></propfind>'
_LOCK = (
    b'<?xml version="1.0"?><lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope>'
    b"<locktype><write/></locktype><owner>morpheus</owner></lockinfo>"
)
_BUSY = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.LOCKED,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said: ``now`` is its clock, ``etag`` None where it sent none to rely on."""

    status: int
    body: bytes
    now: datetime
    etag: str | None
    headers: Mapping[str, str]

    @property
    def found(self) -> bool:
        return self.status != HTTPStatus.NOT_FOUND


class Dav:
    """Requests below one collection of a server; paths are relative to it.

    Every call ends within :data:`TIMEOUT` seconds between two bytes, and raises

    - StoreBusyError or UnreachableError where the same call may succeed in a moment (whether a request that
      changes something took effect is unknown then),
    - RegistryBrokenError where a person has to act: credentials, rights, room, another address.
    """

    def __init__(self, base: str, username: str | None, password: str | None) -> None:
        self.base = quote(base, safe="%/:[]")
        self._credentials = httpx.BasicAuth(username, password or "") if username else None
        # One connection each, lent to one thread at a time: httpx's own pool closes a connection under a
        # thread that has just been given it.
        self._clients: queue.LifoQueue[httpx.Client | None] = queue.LifoQueue()
        for _ in range(CONNECTIONS):
            self._clients.put(None)
        weakref.finalize(self, _close, self._clients).atexit = False

    def software(self) -> str:
        """What the server calls itself, in its header or on the page that something is not there."""
        answer = self.get(fresh_name())
        return f"{answer.headers.get('server', '')} {answer.body.decode(errors='replace')}"

    def url(self, path: str) -> str:
        return urljoin(self.base, quote(path))

    @contextlib.contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        client = self._clients.get()
        try:
            if client is None:
                client = httpx.Client(
                    auth=self._credentials,
                    timeout=TIMEOUT,
                    headers={"User-Agent": "morpheus", "Accept-Encoding": "identity"},
                )
            yield client
        finally:
            self._clients.put(client)

    def get(self, path: str) -> Answer:
        """Return the file; ``found`` is False where there is none."""
        return self._patiently("GET", path, also={HTTPStatus.NOT_FOUND})

    def children(self, path: str) -> tuple[Mapping[str, str] | None, datetime]:
        """Return the names in a collection with the times of their last changes, as the server tells them.

        None where there is no such collection; and the server's time.
        """
        answer = self._patiently(
            "PROPFIND", path, content=_LIST, headers={"Depth": "1"}, also={HTTPStatus.NOT_FOUND}
        )
        if not answer.found:
            return None, answer.now
        try:
            tree = ET.fromstring(answer.body)  # noqa: S314  # of the server that is trusted with the registry
        except ET.ParseError as error:
            raise StoreBusyError(f"{self.url(path)} was listed in no XML ({error}).") from error
        own = unquote(urlsplit(self.url(path)).path.rstrip("/"))
        found = {}
        for each in tree.iter("{DAV:}response"):
            place = unquote(urlsplit(each.findtext("{DAV:}href") or "").path.rstrip("/"))
            if place != own:
                changed = next((str(time.text) for time in each.iter("{DAV:}getlastmodified")), "")
                found[place.rpartition("/")[2]] = changed
        return found, answer.now

    def put(
        self, path: str, body: bytes, headers: Mapping[str, str] | None = None, *, patiently: bool = False
    ) -> bool:
        """Write a file; False where a condition in *headers* did not hold.

        Raises:
            MissingCollectionError: the collection is not there.
        """
        send = self._patiently if patiently else self._once
        answer = send("PUT", path, content=body, headers=headers, also={HTTPStatus.PRECONDITION_FAILED})
        return answer.status != HTTPStatus.PRECONDITION_FAILED

    def make_collection(self, path: str, *, patiently: bool = False) -> bool:
        """Make a collection; False where it is there already.

        Raises:
            MissingCollectionError: the one above it is not there.
        """
        return self._make(f"{path}/", patiently=patiently)

    def _make(self, path: str, *, raw: bool = False, patiently: bool = False) -> bool:
        there = {HTTPStatus.METHOD_NOT_ALLOWED}
        send = self._patiently if patiently else self._once
        try:
            answer = send("MKCOL", path, also=there, raw=raw)
        except RegistryBrokenError:  # Apache answers 403 to one of two that make it at the same time
            answer = send("MKCOL", path, also=there, raw=raw)
        return answer.status != HTTPStatus.METHOD_NOT_ALLOWED

    def make_collections(self, path: str) -> None:
        """Make a collection with all those above it; an empty *path* is the base itself."""
        if not path:
            self._make_base()
            return
        try:
            self.make_collection(path)
        except MissingCollectionError:
            self.make_collections(path.rpartition("/")[0])
            self.make_collection(path)

    def _make_base(self) -> None:
        """Make the collection below which everything stands, from the top of the server on."""
        url = urlsplit(self.base)
        parts = url.path.strip("/").split("/")
        for k in range(1, len(parts) + 1):
            self._make(f"/{'/'.join(parts[:k])}/", raw=True)

    def move_once(self, source: str, target: str) -> bool:
        """Move a collection where nothing stands yet; False where something does.

        Raises:
            TransientError: the outcome is unknown.
        """
        headers = {"Destination": self.url(target) + "/", "Overwrite": "F"}
        answer = self._once("MOVE", f"{source}/", headers=headers, also={HTTPStatus.PRECONDITION_FAILED})
        return answer.status != HTTPStatus.PRECONDITION_FAILED

    def delete(self, path: str, headers: Mapping[str, str] | None = None, *, patiently: bool = False) -> bool:
        """Remove a file or a collection; False where none is there.

        A server that removes a collection piece by piece may leave some, when two ask for it at once.
        """
        send = self._patiently if patiently else self._once
        answer = send("DELETE", path, headers=headers, also={HTTPStatus.NOT_FOUND})
        return answer.status != HTTPStatus.NOT_FOUND

    def lock(self, path: str, seconds: int) -> str | None:
        """Lock a resource; its token, None where somebody else has it.

        Raises:
            RegistryBrokenError: the server locks nothing, or not for this user.
        """
        headers = {"Timeout": f"Second-{seconds}", "Depth": "0", "Content-Type": "application/xml"}
        answer = self._once("LOCK", path, content=_LOCK, headers=headers, also={HTTPStatus.LOCKED})
        if answer.status == HTTPStatus.LOCKED:
            return None
        return answer.headers["lock-token"].strip("<>") if "lock-token" in answer.headers else ""

    def unlock(self, path: str, token: str) -> None:
        self._once(
            "UNLOCK",
            path,
            headers={"Lock-Token": f"<{token}>"},
            also={HTTPStatus.CONFLICT, HTTPStatus.BAD_REQUEST, HTTPStatus.PRECONDITION_FAILED},
        )

    def _patiently(self, method: str, path: str, **request: Any) -> Answer:
        """A request that may be sent again: it changes nothing, or the same once more."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=1),
            stop=tenacity.stop_after_attempt(READ_TRIES) | tenacity.stop_after_delay(READ_PATIENCE),
            before_sleep=_say_slow,
            reraise=True,
        )
        return attempts(self._once, method, path, **request)

    def _once(  # noqa: PLR0913  # the parts of a request
        self,
        method: str,
        path: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        also: set[HTTPStatus] | frozenset[HTTPStatus] = frozenset(),
        raw: bool = False,
    ) -> Answer:
        """Send one request; *also* are statuses of no success that the caller understands."""
        url = urljoin(self.base, path) if raw else self.url(path)
        try:
            with (
                self._client() as client,
                client.stream(method, url, content=content, headers=dict(headers or {})) as answer,
            ):
                body = _read(answer)
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise UnreachableError(
                f"{method} {url}: no answer ({reason}); check registry.url and this machine's network."
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise RegistryBrokenError(f"{method} {url} cannot be sent: {error}.") from error
        if not answer.is_success and answer.status_code not in also:
            raise _error(method, url, answer)
        if answer.status_code == HTTPStatus.MULTI_STATUS and method != "PROPFIND":
            raise StoreBusyError(f"The store did only a part ({method} {url}: {answer.status_code}).")
        etag = answer.headers.get("etag", "")
        return Answer(
            answer.status_code,
            body,
            _date(answer.headers.get("date")),
            etag if etag and not etag.startswith("W/") else None,
            answer.headers,
        )


def _close(clients: "queue.LifoQueue[httpx.Client | None]") -> None:
    """Close what nobody uses any more."""
    with contextlib.suppress(queue.Empty):
        while True:
            if client := clients.get_nowait():
                client.close()


def _read(answer: httpx.Response) -> bytes:
    """The body of *answer*.

    Raises:
        httpx.ReadTimeout: it takes too long as a whole.
        RegistryBrokenError: it is too large to be a registry.
    """
    body, deadline = bytearray(), time.monotonic() + LONGEST
    for part in answer.iter_bytes():
        body += part
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout(f"its answer took longer than {LONGEST:.0f} s")
        if len(body) > LARGEST:
            raise RegistryBrokenError(f"{answer.url} is larger than {LARGEST >> 20} MiB: check registry.url.")
    return bytes(body)


def _say_slow(state: tenacity.RetryCallState) -> None:
    """Say why it takes longer, before the first try that follows a long one."""
    if state.outcome and (state.seconds_since_start or 0) > SLOW:
        log.warning("%s; trying again", str(state.outcome.exception()).partition("; check")[0].rstrip("."))


class MissingCollectionError(TransientError):
    """The collection of what was to be written is not there."""


def _error(method: str, url: str, answer: httpx.Response) -> Exception:
    """What an answer that is no success means for the caller."""
    status = answer.status_code
    what = f"{method} {url}: {status} {answer.reason_phrase}".strip()
    if status in _BUSY:
        return StoreBusyError(f"The store is busy ({what}).")
    if status == HTTPStatus.PRECONDITION_FAILED:
        return RegistryConflictError(f"Another writer came first ({what}).")
    if status == HTTPStatus.CONFLICT or (
        status == HTTPStatus.NOT_FOUND and method in {"MKCOL", "PUT", "MOVE"}
    ):
        return MissingCollectionError(f"The collection is not there ({what}).")
    if status == HTTPStatus.UNAUTHORIZED:
        advice = (
            "the user name or the password is not accepted: check registry.username and registry.password"
        )
    elif status == HTTPStatus.FORBIDDEN:
        advice = "this user has no right to do so: check the access settings of the store"
    elif status == HTTPStatus.INSUFFICIENT_STORAGE:
        advice = "the store is full: make room in it, then run this again"
    elif answer.is_redirect:
        advice = (
            f"it has moved to {_without_query(answer.headers.get('location', 'nowhere'))}: set registry.url"
        )
    else:
        advice = "this server does not do what a registry needs: check registry.url"
    return RegistryBrokenError(f"{what}: {advice}.")


def _without_query(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _date(text: str | None) -> datetime:
    """The server's clock; ours where it tells none."""
    try:
        return parsedate_to_datetime(text or "").astimezone(UTC)
    except ValueError:
        return datetime.now(UTC)


def fresh_name() -> str:
    return uuid.uuid4().hex
