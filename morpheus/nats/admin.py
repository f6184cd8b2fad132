"""What is done through NATS's own API: the probe, and who belongs to the cluster."""

import asyncio
import contextlib
import functools
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client

from morpheus.errors import MachineError, NotReadyError, UnreachableError
from morpheus.nats.monitor import peer_id

CONNECT_TIMEOUT = 2
REQUEST_TIMEOUT = 2.0
LIST_TIMEOUT = 8.0  # the server itself waits 4 s for streams whose nodes do not answer
PROBE_PREFIX, PROBE_SUBJECT = "MORPHEUS_PROBE_", "morpheus.probe."
_UNKNOWN_REQUEST = 10039  # what servers before 2.15 answer to requests they do not know
_NOT_MEMBER = 10044  # "server is not a member of the cluster"
_NO_STREAM = 10059  # "stream not found"
_CHANGING = 10202  # "cluster member change is in progress": one at a time
_BUSY = 503  # the code of errors that pass, such as a meta group that has no leader at the moment


class ApiError(MachineError):
    """JetStream answered a request with an error."""

    def __init__(self, subject: str, error: Mapping[str, Any]) -> None:
        super().__init__(f"{subject}: {error.get('description')} ({error.get('err_code')})")
        self.err_code = error.get("err_code")


@contextlib.asynccontextmanager
async def connected(urls: Sequence[str], seed: str | None = None) -> AsyncIterator[Client]:
    """A connection to the first of *urls* that answers, as the user of the nkey *seed* or as nobody.

    Raises:
        UnreachableError: none of them lets us in.
    """
    reasons = []
    for url in urls:
        client = Client()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await _connect(client, url, seed)
        except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
            with contextlib.suppress(AssertionError):  # says one that did not even get a socket
                await client.close()
            reasons.append(f"{url} ({' '.join(str(error).split()) or type(error).__name__})")
            continue
        try:
            yield client
        finally:
            await client.close()
        return
    raise UnreachableError(f"No connection to {', '.join(reasons)}.")


async def _connect(client: Client, url: str, seed: str | None) -> None:
    """Connect once; the client's own way would try a server that is away again and again."""

    async def quiet(_: Exception) -> None:
        """Errors come back from the calls themselves."""

    await client.connect(
        servers=[url],
        nkeys_seed_str=seed,
        tls=_tls(),
        allow_reconnect=False,
        max_reconnect_attempts=1,
        reconnect_time_wait=0,
        connect_timeout=CONNECT_TIMEOUT,
        error_cb=quiet,
        name="morpheus",
    )


@functools.cache
def _tls() -> ssl.SSLContext:
    """For servers that demand TLS; who they are was proven by the way, which ends on their loopback."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def api(client: Client, subject: str, body: Any = None, *, timeout: float = REQUEST_TIMEOUT) -> Any:  # noqa: ASYNC109  # of the request
    """One request of the JetStream API; its answer as JSON.

    Raises:
        ApiError: the server answered with an error.
        UnreachableError: it did not answer, or with an error that passes.
    """
    try:
        payload = b"" if body is None else json.dumps(body).encode()
        message = await client.request(subject, payload, timeout=timeout)
    except (nats.errors.Error, TimeoutError) as error:
        raise UnreachableError(f"{subject}: {error or type(error).__name__}") from error
    answer = json.loads(message.data)
    fault = answer.get("error")
    if fault and (fault.get("code") == _BUSY or fault.get("err_code") == _CHANGING):
        raise UnreachableError(f"{subject}: {fault.get('description')}")
    if fault:
        raise ApiError(subject, fault)
    return answer


async def probe(urls: Sequence[str], seed: str | None = None, *, timeout: float, on: str = "") -> float:  # noqa: ASYNC109  # of the whole probe
    """Send a message through a forest: written with acknowledgement on one node, read on another.

    The stream has three replicas where there are at least three nodes, or a single one *on* that server, and
    is gone afterwards, with any that an interrupted probe left. Requests right after a cluster has formed may
    fail; they are repeated until *timeout* seconds have passed.

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
                await _probe_once(urls, seed, on)
        except TimeoutError as error:
            last = last or error  # the end of our own patience explains nothing
        except (UnreachableError, ApiError, NotReadyError, nats.errors.Error, OSError) as error:
            last = error
            await asyncio.sleep(0.02)
        else:
            return time.monotonic() - started
    raise NotReadyError(
        f"No message came through the cluster within {timeout:.0f} s; last seen: "
        f"{str(last) or type(last).__name__}."
    )


async def _probe_once(urls: Sequence[str], seed: str | None, on: str) -> None:
    token = uuid.uuid4().hex
    stream, subject = PROBE_PREFIX + token, PROBE_SUBJECT + token
    async with connected(urls[:1], seed) as writer, connected(urls[-1:], seed) as reader:
        await _remove_probes(writer)
        config = {
            "name": stream,
            "subjects": [subject],
            "num_replicas": 1 if on else min(3, len(urls)),
            "storage": "file",
            "retention": "limits",
            "max_msgs": 1,
            **({"placement": {"tags": [on]}} if on else {}),
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


async def remove_probes(urls: Sequence[str], seed: str | None = None) -> None:
    """Remove what interrupted probes left; some of it is bound to one server."""
    async with connected(urls, seed) as client:
        await _remove_probes(client)


async def _remove_probes(client: Client) -> None:
    for name in await stream_names(client, f"{PROBE_SUBJECT}*"):
        if name.startswith(PROBE_PREFIX):
            await _delete_stream(client, name)


async def stream_names(client: Client, subject: str = "") -> list[str]:
    """All streams of the account, or those that listen to *subject*, page by page."""
    names: list[str] = []
    wanted = {"subject": subject} if subject else {}
    while True:
        page = await api(client, "$JS.API.STREAM.NAMES", {"offset": len(names), **wanted})
        listed = page.get("streams") or []
        names += listed
        if not listed or len(names) >= page.get("total", 0):
            return names


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


async def remove_peer(urls: Sequence[str], system_seed: str, peer: str) -> None:
    """Remove the server *peer* from the meta group, if it is in it.

    It is named by its id: a leader that restarted after *peer* was lost knows no name for it, and would
    say that there is no such member.

    Raises:
        UnreachableError: nobody answers, or another change of the members has to land first: ask again.
    """
    body = {"peer": peer, "peer_id": peer_id(peer)}
    async with connected(urls, system_seed) as client:
        try:
            await api(client, "$JS.API.SERVER.REMOVE", body, timeout=LIST_TIMEOUT)
        except ApiError as error:
            if error.err_code != _NOT_MEMBER:
                raise


async def evacuate(urls: Sequence[str], system_seed: str, server: str) -> None:
    """Have the cluster begin to move all streams and consumers away from *server*.

    New ones still come to it, until it has stopped.

    Raises:
        MachineError: its servers cannot do that, or will not.
    """
    async with connected(urls, system_seed) as client:
        try:
            await api(client, "$JS.API.SERVER.EVACUATE", {"peer": server}, timeout=LIST_TIMEOUT)
        except ApiError as error:
            if error.err_code != _UNKNOWN_REQUEST:
                raise
            raise MachineError(
                f"The streams on {server} cannot be moved away: that needs nats-server 2.15 or newer on "
                "every node."
            ) from error


async def step_down(urls: Sequence[str], system_seed: str) -> None:
    """Have the cluster choose another meta leader."""
    async with connected(urls, system_seed) as client:
        await api(client, "$JS.API.META.LEADER.STEPDOWN", {}, timeout=LIST_TIMEOUT)


async def move_copy(urls: Sequence[str], app_seed: str, stream: str, server: str) -> None:
    """Have the cluster begin to move the copy of *stream* on *server* to another one, which it chooses.

    Raises:
        MachineError: its servers cannot do that, or there is no other.
    """
    async with connected(urls, app_seed) as client:
        await api(client, f"$JS.API.STREAM.PEER.EVACUATE.{stream}", {"peer": server}, timeout=LIST_TIMEOUT)


async def move_leader(urls: Sequence[str], app_seed: str, stream: str, server: str) -> None:
    """Have *server*, which has a copy of *stream*, lead it, if it can."""
    async with connected(urls, app_seed) as client:
        body = {"placement": {"preferred": server}}
        await api(client, f"$JS.API.STREAM.LEADER.STEPDOWN.{stream}", body, timeout=LIST_TIMEOUT)
