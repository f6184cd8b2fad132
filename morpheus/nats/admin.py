"""What is done through NATS's own API: the probe, the list of streams, removing a lost peer."""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client

from morpheus.errors import MachineError, NotReadyError, UnreachableError

CONNECT_TIMEOUT = 2.0
REQUEST_TIMEOUT = 2.0
LIST_TIMEOUT = 8.0  # the server itself waits 4 s for streams whose nodes do not answer
PROBE_PREFIX = "MORPHEUS_PROBE_"
_NOT_MEMBER = 10044  # "server is not a member of the cluster"
_NO_STREAM = 10059  # "stream not found"


class ApiError(MachineError):
    """JetStream answered a request with an error."""

    def __init__(self, subject: str, error: Mapping[str, Any]) -> None:
        super().__init__(f"{subject}: {error.get('description')} ({error.get('err_code')})")
        self.err_code = error.get("err_code")


@contextlib.asynccontextmanager
async def connected(urls: Sequence[str], seed: str | None = None) -> AsyncIterator[Client]:
    """A connection to one of *urls*, as the user of the nkey *seed* or without credentials."""

    async def quiet(_: Exception) -> None:
        """Errors come back from the calls themselves."""

    try:
        client = await nats.connect(
            servers=list(urls),
            nkeys_seed_str=seed,
            allow_reconnect=False,
            connect_timeout=CONNECT_TIMEOUT,
            error_cb=quiet,
            name="morpheus",
        )
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise UnreachableError(
            f"No connection to {', '.join(urls)}: {error or type(error).__name__}."
        ) from error
    try:
        yield client
    finally:
        await client.close()


async def api(client: Client, subject: str, body: Any = None, *, timeout: float = REQUEST_TIMEOUT) -> Any:  # noqa: ASYNC109  # of the request
    """One request of the JetStream API; its answer as JSON.

    Raises:
        ApiError: the server answered with an error.
        UnreachableError: it did not answer.
    """
    try:
        payload = b"" if body is None else json.dumps(body).encode()
        message = await client.request(subject, payload, timeout=timeout)
    except (nats.errors.Error, TimeoutError) as error:
        raise UnreachableError(f"{subject}: {error or type(error).__name__}") from error
    answer = json.loads(message.data)
    if answer.get("error"):
        raise ApiError(subject, answer["error"])
    return answer


async def probe(urls: Sequence[str], *, timeout: float) -> float:  # noqa: ASYNC109  # of the whole probe
    """Send a message through a forest: written with acknowledgement on one node, read on another.

    The stream has three replicas where there are at least three nodes, and is gone afterwards, with any
    that an interrupted probe left. Requests right after a cluster has formed may fail; they are repeated
    until *timeout* seconds have passed.

    Returns:
        Seconds it took.

    Raises:
        NotReadyError: no message came through in time; says what was seen last.
    """
    started = time.monotonic()
    deadline = started + timeout
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                await _probe_once(urls)
        except (UnreachableError, ApiError, NotReadyError, nats.errors.Error, OSError, TimeoutError) as error:
            last = error
            await asyncio.sleep(0.02)
        else:
            return time.monotonic() - started
    raise NotReadyError(
        f"No message came through the cluster within {timeout:.0f} s; last seen: "
        f"{str(last) or type(last).__name__}."
    )


async def _probe_once(urls: Sequence[str]) -> None:
    token = uuid.uuid4().hex
    stream, subject = PROBE_PREFIX + token, f"morpheus.probe.{token}"
    async with connected(urls[:1]) as writer, connected(urls[-1:]) as reader:
        await _remove_probes(writer)
        config = {
            "name": stream,
            "subjects": [subject],
            "num_replicas": min(3, len(urls)) if len(urls) > 1 else 1,
            "storage": "file",
            "retention": "limits",
            "max_msgs": 1,
        }
        try:
            await api(writer, f"$JS.API.STREAM.CREATE.{stream}", config)
            acknowledged = json.loads((await writer.request(subject, token.encode(), timeout=1)).data)
            if acknowledged.get("error") or acknowledged.get("stream") != stream:
                raise NotReadyError(f"the message was not acknowledged: {acknowledged}")
            got = await api(reader, f"$JS.API.STREAM.MSG.GET.{stream}", {"seq": acknowledged["seq"]})
            if got["message"]["subject"] != subject:
                raise NotReadyError("another message was read than was written")
        finally:
            await _delete_stream(writer, stream)


async def _remove_probes(client: Client) -> None:
    names = (await api(client, "$JS.API.STREAM.NAMES", {"offset": 0})).get("streams") or []
    for name in names:
        if name.startswith(PROBE_PREFIX):
            await _delete_stream(client, name)


async def _delete_stream(client: Client, stream: str) -> None:
    """Delete *stream*, and do not give up at the first failure: a probe leaves nothing behind."""
    for _ in range(5):
        try:
            await api(client, f"$JS.API.STREAM.DELETE.{stream}")
        except ApiError as error:
            if error.err_code == _NO_STREAM:
                return
        except UnreachableError:
            await asyncio.sleep(0.1)
        else:
            return


@dataclass(frozen=True, slots=True)
class Streams:
    """What the cluster knows of its streams, in the application's account.

    ``missing`` are assigned but answer nothing: their only node, or the majority of their nodes, is away.
    ``replicas`` says how many copies each answering stream is meant to have, ``current`` how many it has.
    """

    missing: tuple[str, ...]
    replicas: Mapping[str, int]
    current: Mapping[str, int]


async def streams(urls: Sequence[str], seed: str) -> Streams:
    """List all streams of the application's account, page by page."""
    missing: set[str] = set()
    replicas, current = {}, {}
    offset = 0
    async with connected(urls, seed) as client:
        while True:
            page = await api(client, "$JS.API.STREAM.LIST", {"offset": offset}, timeout=LIST_TIMEOUT)
            listed = page.get("streams") or []
            missing |= set(page.get("missing") or [])
            for each in listed:
                name, cluster = each["config"]["name"], each.get("cluster") or {}
                replicas[name] = each["config"]["num_replicas"]
                peers = [peer for peer in cluster.get("replicas") or [] if peer.get("current")]
                current[name] = len(peers) + bool(cluster.get("leader"))
            offset += len(listed) or len(page.get("missing") or [])
            if offset >= page.get("total", 0) or not listed:
                return Streams(tuple(sorted(missing)), replicas, current)


async def remove_peer(urls: Sequence[str], system_seed: str, peer: str) -> None:
    """Remove the server *peer* from the meta group, if it is in it."""
    async with connected(urls, system_seed) as client:
        try:
            await api(client, "$JS.API.SERVER.REMOVE", {"peer": peer}, timeout=LIST_TIMEOUT)
        except ApiError as error:
            if error.err_code != _NOT_MEMBER:
                raise
