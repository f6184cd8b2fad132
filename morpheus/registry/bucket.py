"""A bucket of an S3 endpoint: its requests, and each of its answers as a value or as one of our errors.

obstore repeats nothing here: whether a write that got no answer took effect is for the caller to find out,
and a repetition would be told that the first one is in its way.
"""

import functools
import logging
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, quote, unquote, urlsplit

import httpx
import obstore
import tenacity
from obstore.exceptions import BaseError
from obstore.store import S3Store as Client

from morpheus import host
from morpheus.errors import (
    InvalidInputError,
    RegistryBrokenError,
    StoreBusyError,
    TransientError,
    UnreachableError,
)

if TYPE_CHECKING:
    from obstore.store import S3Credential

log = logging.getLogger("morpheus.registry")

TIMEOUT = 20.0  # seconds for one request, its answer included
CONNECT_TIMEOUT = 5.0  # seconds
TRIES = 4  # of a request that may be sent again, before the caller hears of it
CLOCK_FRESH = 60.0  # seconds for which the time an endpoint told is carried on with our own stopwatch
NOTE = "morpheus"  # the object's metadata field of ours

# Endpoints whose bucket URLs are shown with the bucket in front: the same place is reached either way.
_VIRTUAL = re.compile(
    r"(?P<bucket>.+)\.(?P<endpoint>[a-z0-9-]+\.your-objectstorage\.com|s3[.-][a-z0-9.-]*amazonaws\.com)"
)
_REGION = re.compile(
    r"(?:s3\.(?:dualstack\.)?(?P<second>[a-z0-9-]+)\.[a-z0-9-]+\.|(?P<first>[a-z0-9-]+)\.your-objectstorage\.)"
)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]+")
_STATUS = re.compile(r"status code: (\d{3})")
_DETAIL = re.compile(r'(?:message|error): "([^"\n]+)"|(InvalidCertificate\(\w+)')
_CODE = re.compile(r"<Code>\s*(\w+)\s*</Code>")
_BUSY = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
_KEYS = "check registry.username (the access key id) and registry.password (its secret)"
_ADVICE = {
    "NoSuchBucket": "there is no such bucket: create it, or correct registry.url",
    "RequestTimeTooSkewed": "the clock of this machine is wrong by more than the endpoint accepts: set it",
    "InvalidAccessKeyId": f"the access key is not known: {_KEYS}",
    "SignatureDoesNotMatch": f"the secret does not fit the access key: {_KEYS}",
    "AuthorizationHeaderMalformed": "the region is another one: add ?region=<name> to registry.url",
    "QuotaExceeded": "the bucket is full: make room in it, then run this again",
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a document stands. ``endpoint`` has no path and no slash at its end."""

    endpoint: str
    bucket: str
    key: str
    region: str

    @property
    def url(self) -> str:
        return f"{self.endpoint}/{self.bucket}/{quote(self.key)}"


def place(text: str) -> Place:
    """The place that ``https://<endpoint>/<bucket>/<document>.json`` means, or a folder, ending in /.

    The bucket may stand in front of the endpoint, for Hetzner's and Amazon's. The region follows from the
    name of the endpoint where that tells it, and is ``us-east-1`` else; ``?region=`` names another one.

    Raises:
        InvalidInputError: it is no such URL.
    """
    try:
        url = urlsplit(text if "://" in text else f"https://{text}")
        hostname, port = (url.hostname or "").lower(), url.port
        query = parse_qs(url.query, strict_parsing=True) if url.query else {}
    except ValueError as error:
        raise InvalidInputError("registry.url is no URL: see docs/stores.md for its form.") from error
    if url.scheme not in {"http", "https"} or not hostname or "@" in url.netloc or url.fragment:
        raise InvalidInputError(
            "registry.url must be https://<endpoint>/<bucket>/<document>.json, without the access key."
        )
    if set(query) - {"region"}:
        raise InvalidInputError("registry.url may have no parameter but region.")
    path = unquote(url.path).lstrip("/")
    if virtual := _VIRTUAL.fullmatch(hostname):
        path, hostname = f"{virtual['bucket']}/{path}", virtual["endpoint"]
    bucket, _, key = path.partition("/")
    if path.endswith("/"):
        key += "registry.json"
    clean = _BUCKET.fullmatch(bucket) and key.isprintable() and not {"", ".", ".."} & set(key.split("/"))
    if not clean or not key.endswith(".json"):
        raise InvalidInputError(  # without its text, in which a secret may stand
            "registry.url must name a bucket, and end in .json, or in / for a folder: "
            "https://<endpoint>/<bucket>/<document>.json"
        )
    netloc = f"[{hostname}]" if ":" in hostname else hostname
    endpoint = f"{url.scheme}://{netloc}" + (f":{port}" if port else "")
    return Place(endpoint, bucket, key, query.get("region", [_region(hostname)])[0])


def _region(hostname: str) -> str:
    found = _REGION.match(hostname)
    return (found["second"] or found["first"]) if found else "us-east-1"


@dataclass(frozen=True, slots=True)
class Found:
    """An object: its bytes, the ETag by which it is replaced, and our note in its metadata."""

    body: bytes
    etag: str
    note: str


class Bucket:
    """Requests to one bucket.

    Every call ends, and raises

    - StoreBusyError or UnreachableError where the same call may succeed in a moment (whether a write took
      effect is unknown then),
    - RegistryBrokenError where a person has to act: credentials, rights, a bucket that is not there.

    Args:
        where: the bucket's endpoint, name and region; its key does not matter.
        access_key_id: of the store.
        secret_access_key: that belongs to it.
    """

    def __init__(self, where: Place, access_key_id: str, secret_access_key: str) -> None:
        self._where = where
        self._clock = _Clock(where.endpoint)
        credential: S3Credential = {
            "access_key_id": access_key_id,
            "secret_access_key": secret_access_key,
            "token": None,
            "expires_at": None,
        }
        # What the environment says for other programs (AWS_*) must not lead elsewhere.
        self._client = Client(
            where.bucket,
            config={
                "endpoint": where.endpoint,
                "aws_endpoint_url_s3": where.endpoint,
                "region": where.region,
                "virtual_hosted_style_request": False,
                "conditional_put": "etag",
                "skip_signature": False,
                "disable_bulk_delete": True,
            },
            client_options={
                "allow_http": where.endpoint.startswith("http:"),
                "timeout": f"{TIMEOUT}s",
                "connect_timeout": f"{CONNECT_TIMEOUT}s",
            },
            retry_config={"max_retries": 0},
            credential_provider=lambda: credential,
        )

    def now(self) -> datetime:
        """The endpoint's time."""
        return _patiently(self._clock.now)

    def get(self, key: str) -> Found | None:
        """Return the object; None where there is none."""

        def get() -> Found:
            found = obstore.get(self._client, key)
            body = bytes(found.bytes())
            return Found(body, found.meta["e_tag"] or "", str(found.attributes.get(NOTE, "")))

        return _patiently(lambda: self._once("GET", key, get))

    def names(self, prefix: str) -> list[str]:
        """Return the names of the objects right in a folder; *prefix* names it without a slash at its end."""

        def names() -> list[str]:
            return [each["path"] for page in obstore.list(self._client, prefix) for each in page]

        paths = _patiently(lambda: self._once("LIST", f"{prefix}/", names)) or []
        below = (path.removeprefix(f"{prefix}/") for path in paths if path.startswith(f"{prefix}/"))
        return [name for name in below if "/" not in name]

    def put(self, key: str, body: bytes) -> None:
        """Write an object, whatever stands there."""
        _patiently(lambda: self._put(key, body, "overwrite"))

    def create(self, key: str, body: bytes, note: str = "") -> str | None:
        """Write an object where none is yet; its ETag, None where one was in the way."""
        return self._put(key, body, "create", note)

    def replace(self, key: str, body: bytes, etag: str, note: str = "") -> str | None:
        """Write an object in place of the one with that *etag*; the new one, None where that is not there."""
        return self._put(key, body, {"e_tag": etag}, note)

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        _patiently(lambda: self._once("DELETE", key, lambda: obstore.delete(self._client, key)))

    def _put(self, key: str, body: bytes, mode: Any, note: str = "") -> str | None:
        kind: dict[str, str] = {"Content-Type": "application/json"}
        attributes = kind | ({NOTE: note} if note else {})

        def put() -> str:
            answer = obstore.put(
                self._client, key, body, mode=mode, use_multipart=False, attributes=attributes
            )
            return answer["e_tag"] or ""

        return self._once("PUT", key, put)

    def _once(self, method: str, key: str, call: Callable[[], T]) -> T | None:
        """What one request gives; None where the object is not there, or a condition did not hold."""
        try:
            return call()
        except (BaseError, OSError, ValueError) as error:
            status, code, reason = _answer(str(error))
            if status == HTTPStatus.PRECONDITION_FAILED or code == "NoSuchKey":
                return None
            what = f"{method} {self._where.endpoint}/{self._where.bucket}/{quote(key)}"
            raise _error(what, status, code, reason) from error


class _Clock:
    """The time of an endpoint: the Date of an unsigned HEAD, carried on for a minute by our own stopwatch.

    It counts sleep, and from the moment the answer was there; so what it tells is late by at most a second
    and the way of the answer, and never early. This machine's idea of the date has no part in it.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._told: tuple[datetime, float] | None = None

    def now(self) -> datetime:
        told = self._told
        if told is None or host.awake_seconds() - told[1] > CLOCK_FRESH:
            told = self._told = (self._ask(), host.awake_seconds())
        return told[0] + timedelta(seconds=host.awake_seconds() - told[1])

    def _ask(self) -> datetime:
        try:
            answer = httpx.head(f"{self._endpoint}/", timeout=CONNECT_TIMEOUT, verify=_trusted())
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise UnreachableError(f"HEAD {self._endpoint}/: no answer ({reason}).") from error
        try:
            return parsedate_to_datetime(answer.headers.get("date", "")).astimezone(UTC)
        except ValueError:
            log.warning("%s tells no time; this machine's is used", self._endpoint)
            return datetime.now(UTC)


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Whom httpx trusts; reading that takes longer than the request."""
    return httpx.create_ssl_context()


def _patiently(call: Callable[[], T]) -> T:
    """A request that may be sent again."""
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=1),
        stop=tenacity.stop_after_attempt(TRIES),
        reraise=True,
    )
    return attempts(call)


def _answer(text: str) -> tuple[int | None, str, str]:
    """Status, S3's error code and the gist of an error of obstore, whose text goes on for pages."""
    status, code = _STATUS.search(text), _CODE.search(text)
    gist = text.partition("\n")[0].rpartition(" - ")[2].partition(": <?xml")[0].strip()
    if detail := _DETAIL.search(text):
        gist += f": {detail[1] or detail[2] + ')'}"
    return int(status[1]) if status else None, code[1] if code else "", gist


def _error(what: str, status: int | None, code: str, reason: str) -> Exception:
    """What an answer that is no success means for the caller."""
    if status is None and "redirect" in reason:
        return RegistryBrokenError(f"{what}: the bucket stands at another endpoint: set registry.url.")
    if status is None:
        return UnreachableError(f"{what}: no answer ({reason}).")
    what = f"{what}: {status} {code}".rstrip()
    if code in _ADVICE:
        return RegistryBrokenError(f"{what}: {_ADVICE[code]}.")
    if status in _BUSY or code in {"RequestTimeout", "SlowDown"}:
        return StoreBusyError(f"The store is busy ({what}).")
    if status == HTTPStatus.UNAUTHORIZED:
        advice = f"the access key is not accepted: {_KEYS}"
    elif status == HTTPStatus.FORBIDDEN:
        advice = "this access key may not do so: it has to read, write, list and delete objects"
    elif status == HTTPStatus.INSUFFICIENT_STORAGE:
        advice = "the store is full: make room in it, then run this again"
    else:
        advice = "this endpoint does not do what a registry needs: check registry.url"
    return RegistryBrokenError(f"{what}: {advice}.")
