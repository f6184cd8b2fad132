"""Hetzner's API through its own client: bounded, at a pace, each refusal as one of our errors.

The client repeats what it knows to be safe for a few seconds (limits, conflicts, gateways, timeouts); longer
horizons are the tasks'. The token stands in no error and no log line: the API's own messages may hold it.
"""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import hcloud
import requests
from hcloud import APIException
from requests.adapters import HTTPAdapter

from morpheus import __version__
from morpheus.errors import CloudBusyError, CloudError, InvalidInputError, UnreachableError
from morpheus.settings import HetznerSettings

log = logging.getLogger("morpheus.cloud")

CONNECT_TIMEOUT, ANSWER_TIMEOUT = 5.0, 10.0  # seconds, of one request
RETRIES = 2  # by the client, after one and up to two seconds
MARGIN = (RETRIES + 1) * (CONNECT_TIMEOUT + ANSWER_TIMEOUT) + 3.0  # seconds that a call lasts, at most
CONNECTIONS = 20
RESERVE = 5  # requests of the project's limit that are left to others
GATHERING = 0.05  # seconds until a look begins that several share
LONGEST_PAUSE = 5.0  # seconds before one request
SECONDS_OF_LIMIT = 3600
SAID_AGAIN = 5.0  # seconds until it is said again that there is no answer

SOLD_OUT = {"resource_unavailable", "placement_error", "placement_group_member_limit_reached"}
BUSY = {
    "rate_limit_exceeded",
    "conflict",
    "locked",
    "timeout",
    "bad_gateway",
    "unavailable",
    "server_error",
    "service_error",
    "maintenance",
    "resource_locked",
}
ADVICE = {
    "unauthorized": "the token is not accepted: set HETZNER_API_TOKEN to one of your project (Cloud Console, "
    "Security, API tokens)",
    "token_readonly": "the token may only read: make one that may also write (Cloud Console, Security, API "
    "tokens)",
    "forbidden": "the token may not do this: make one that may read and write",
    "resource_limit_exceeded": "the project's limit is reached: remove what is not needed, or ask for more "
    "in the Cloud Console (Limits)",
    "protected": "it is protected: lift the protection in the Cloud Console, then run this again",
}
WRONG_TOKEN = {"unauthorized", "token_readonly", "forbidden"}
Answer = TypeVar("Answer")


class SoldOutError(CloudError):
    """There is no room for the server there; elsewhere there may be."""


class TakenError(CloudError):
    """Something of that name, or the same key, is there already."""


class MissingError(CloudError):
    """What the call is about is not there."""


class AppliedError(CloudError):
    """The firewall belongs to the server already, as the API sees it."""


class UnfitError(CloudError):
    """The API does not accept the request as it is."""


class Api:
    """The client and the way its calls fail.

    Args:
        token: of a project, as it was copied: white space and byte order marks are removed.
        url: of the Cloud API, up to and with its version.
        boxes_url: of the API of Storage Boxes.
    """

    def __init__(self, token: str, url: str, boxes_url: str) -> None:
        self._token = token.strip().strip("\ufeff").strip()
        if not self._token.isascii() or any(each.isspace() for each in self._token):
            raise InvalidInputError("HETZNER_API_TOKEN holds characters that no token has: copy it again.")
        self.client = hcloud.Client(
            self._token,
            api_endpoint=url.rstrip("/"),
            api_endpoint_hetzner=boxes_url.rstrip("/"),
            application_name="morpheus",
            application_version=__version__,
            timeout=(CONNECT_TIMEOUT, ANSWER_TIMEOUT),
        )
        self._pace = _Pace()
        # Not in the client's interface: how often it tries, its connections, the headers of its answers.
        for each in (self.client._client, self.client._client_hetzner):  # noqa: SLF001
            each._retry_max_retries = RETRIES  # noqa: SLF001
            session = each._session  # noqa: SLF001
            for scheme in ("http://", "https://"):
                session.mount(scheme, _Telling(pool_connections=2, pool_maxsize=CONNECTIONS))
            session.auth = self._pace.before
            session.hooks["response"].append(self._pace.after)

    @contextlib.contextmanager
    def call(self, what: str) -> Iterator[None]:
        """Translate what a request in the block raises; *what* is what it was to do.

        Raises:
            SoldOutError, TakenError, MissingError, UnfitError: for the caller to decide.
            CloudBusyError, UnreachableError: the same may succeed in a moment; what happened is unknown.
            CloudError, InvalidInputError: a person has to act.
        """
        try:
            yield
        except APIException as error:
            raise self._translated(what, error) from None  # its text may hold the token
        except requests.RequestException as error:
            raise UnreachableError(
                f"Cannot {what}: Hetzner's API gives no answer ({_kind(error)})."
            ) from None

    def request(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """One request for which the client has no method; call it within :meth:`call`."""
        return self.client.request(method, path, **more)

    def hidden(self, text: str) -> str:
        """*text* without the token."""
        return text.replace(self._token, "***") if self._token else text

    def _translated(self, what: str, error: APIException) -> Exception:
        code = str(error.code)
        told = f"{self.hidden(str(error.message)).rstrip('.')} ({code})"
        if code in WRONG_TOKEN:
            return InvalidInputError(f"Cannot {what}: {ADVICE[code]}.")
        if code in BUSY or (code.isdecimal() and (int(code) >= 500 or int(code) < 300)):  # noqa: PLR2004
            return CloudBusyError(f"Cannot {what} at the moment: {told}.")
        kinds: dict[str, type[CloudError]] = {
            "uniqueness_error": TakenError,
            "not_found": MissingError,
            "invalid_input": UnfitError,
            "firewall_already_applied": AppliedError,
            **dict.fromkeys(SOLD_OUT, SoldOutError),
        }
        advice = f" {ADVICE[code][0].upper()}{ADVICE[code][1:]}." if code in ADVICE else ""
        return kinds.get(code, CloudError)(f"Cannot {what}: {told}.{advice}")


def api_of(settings: HetznerSettings) -> Api:
    """The project of *settings*.

    Raises:
        InvalidInputError: there is no token, or none that can be one.
    """
    if settings.token is None or not settings.token.get_secret_value().strip():
        raise InvalidInputError(
            "There is no API token: set HETZNER_API_TOKEN to one of your project that may read and write "
            "(Cloud Console, Security, API tokens)."
        )
    return Api(settings.token.get_secret_value(), settings.api_url, settings.boxes_url)


class _Telling(HTTPAdapter):
    """Says when a request gets no answer, for the client tries again in silence."""

    _said_at = -math.inf

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        try:
            return super().send(request, *args, **kwargs)
        except requests.RequestException as error:
            if time.monotonic() - self._said_at > SAID_AGAIN:  # many threads may ask at once
                self._said_at = time.monotonic()
                path = urlsplit(request.url or "").path
                log.info("no answer from Hetzner's API to %s %s (%s)", request.method, path, _kind(error))
            raise


def _kind(error: requests.RequestException) -> str:
    """What happened, without the address, which may be anything."""
    return type(error).__name__


class _Pace:
    """Keeps the project's limit of requests: it refills by the second, and all devices share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left, self._refill, self._at = float(RESERVE + 1), 1.0, 0.0

    def before(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Wait while the limit is nearly used up."""
        with self._lock:
            left = self._left + (time.monotonic() - self._at) * self._refill
            pause = min((RESERVE - left) / self._refill, LONGEST_PAUSE)
        if pause > 0:
            log.info("the project's limit of requests is nearly used up: waiting %.1f s", pause)
            time.sleep(pause)
        return request

    def after(self, response: requests.Response, *_: Any, **__: Any) -> None:
        with contextlib.suppress(KeyError, ValueError), self._lock:
            self._left = float(response.headers["RateLimit-Remaining"])
            self._refill = max(float(response.headers["RateLimit-Limit"]) / SECONDS_OF_LIMIT, 0.1)
            self._at = time.monotonic()


class Shared(Generic[Answer]):
    """A look that callers in several threads share: one that began after they came serves them all.

    Tasks of one flow come one after the other, so it begins a moment after the first has come.
    """

    def __init__(self, look: Callable[[], Answer]) -> None:
        self._look = look
        self._turn = threading.Condition()
        self._begun = self._ended = 0
        self._gathers = False
        self._answer: Answer | Exception

    def __call__(self) -> Answer:
        with self._turn:
            wanted = self._begun + 1
            while self._ended < wanted and (self._gathers or self._begun > self._ended):
                self._turn.wait()
            mine = self._ended < wanted
            self._gathers |= mine
        if mine:
            time.sleep(GATHERING)
            with self._turn:
                self._begun, self._gathers = self._begun + 1, False
            self._fetch()
        answer = self._answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _fetch(self) -> None:
        answer: Answer | Exception
        try:
            answer = self._look()
        except Exception as error:  # noqa: BLE001  # whoever waits for this look gets it as well
            answer = error
        with self._turn:
            self._answer = answer
            self._ended = self._begun
            self._turn.notify_all()
