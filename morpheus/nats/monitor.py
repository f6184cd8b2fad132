"""What one NATS server says of itself on its monitoring port: /varz, /jsz and /healthz as one Reading.

Field names and their traps (a follower's view of the other followers is meaningless, a survivor names a
dead leader for seconds) are those of NATS 2.15; servers from 2.10 on answer the same.
"""

import asyncio
import hashlib
import json
import string
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from morpheus.nats.config import authority

TIMEOUT = 2.0  # seconds for one answer
FRESH = 10e9  # nanoseconds: a replica not heard of for longer counts as away
AT_ONCE = 20  # servers that are asked; each has three connections meanwhile
LONGEST = 32 * 2**20  # bytes of one answer

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase


def peer_id(server: str) -> str:
    """The id of *server* in the meta group: what is left of one that nobody has met since a restart."""
    digest = hashlib.sha256(server.encode()).digest()
    return "".join(_DIGITS[byte % len(_DIGITS)] for byte in digest[:8])


@dataclass(frozen=True, slots=True)
class Replica:
    """A peer of the meta group as the leader sees it; ``active`` is nanoseconds since last heard of.

    ``peer`` is its id, for a leader that restarted calls those it has not met since "unknown". ``lag`` is how
    many entries of the group's log it has yet to get.
    """

    name: str
    current: bool
    active: int = 0
    offline: bool = False
    peer: str = ""
    lag: int = 0

    @property
    def healthy(self) -> bool:
        return self.current and not self.offline and self.active < FRESH


@dataclass(frozen=True, slots=True)
class MetaGroup:
    """The JetStream meta group as one server sees it; only the leader's view means anything."""

    leader: str
    size: int
    replicas: tuple[Replica, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What one server said. ``error`` says why it said nothing; then the other fields are empty.

    ``measured`` is off where all that is known is the greeting with which it meets clients: its name and
    version; the other fields are empty then, too, and mean nothing.
    ``cpu`` is percent of one core, averaged by the server over about a second; memory and storage are
    bytes, those reserved are promised to streams; ``health`` is "ok" or the server's own words.
    ``routes`` are connections to other servers of the cluster, several to each; None where nothing is known
    of them. ``asked`` is when it was asked, by time.monotonic().
    """

    error: str = ""
    server: str = ""
    version: str = ""
    health: str = ""
    cpu: float = 0.0
    cores: int = 1
    memory: int = 0
    connections: int = 0
    messages_in: int = 0
    messages_out: int = 0
    slow_consumers: int = 0
    storage: int = 0
    max_storage: int = 0
    js_memory: int = 0
    max_js_memory: int = 0
    reserved_storage: int = 0
    reserved_memory: int = 0
    streams: int = 0
    asked: float = 0.0
    routes: int | None = None
    meta: MetaGroup | None = field(default=None)
    measured: bool = True

    @property
    def reachable(self) -> bool:
        return not self.error

    @property
    def known(self) -> bool:
        """Whether its numbers mean anything."""
        return self.reachable and self.measured

    @property
    def gave_up(self) -> bool:
        """Whether it could not write to its disk once; it does not try again until it is started anew."""
        return "write error" in self.health

    @property
    def leads(self) -> bool:
        return self.meta is not None and self.meta.leader == self.server


async def read(host: str, port: int, *, timeout: float = TIMEOUT) -> Reading:  # noqa: ASYNC109  # of each answer
    """Ask one server; every fault becomes the reading's ``error``."""
    asked = time.monotonic()
    try:
        async with asyncio.timeout(timeout):
            paths = ("/varz", "/jsz", "/healthz")
            return _reading(asked, *await asyncio.gather(*(_get(host, port, path) for path in paths)))
    except TimeoutError:
        return Reading(error=f"no answer within {timeout:g} s")
    except OSError:
        return Reading(error="nothing answers on its monitoring port")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return Reading(error=f"its answer cannot be read ({type(error).__name__}: {error})")


async def _get(host: str, port: int, path: str) -> Any:
    """One answer as JSON. A client for all of HTTP would take a hundred times as long to set up."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {authority(host, port)}\r\n\r\n".encode())
        await reader.readexactly(LONGEST)
    except asyncio.IncompleteReadError as end:
        head, _, body = end.partial.partition(b"\r\n\r\n")
    else:
        raise ValueError("it does not end")
    finally:
        writer.close()
    if not head.startswith(b"HTTP/"):
        raise ValueError("it is no HTTP")
    return json.loads(body)


def read_all(addresses: Sequence[tuple[str, int]], *, timeout: float = TIMEOUT) -> list[Reading]:
    """Ask all servers, some of them at once; the readings come in the order of *addresses*.

    Their bound begins when they are asked: who waits for a turn is not late.
    """

    async def ask() -> list[Reading]:
        turns = asyncio.Semaphore(AT_ONCE)

        async def ask_one(host: str, port: int) -> Reading:
            async with turns:
                return await read(host, port, timeout=timeout)

        return list(await asyncio.gather(*(ask_one(*address) for address in addresses)))

    return asyncio.run(ask())


def _reading(
    asked: float, varz: Mapping[str, Any], jsz: Mapping[str, Any], healthz: Mapping[str, Any]
) -> Reading:
    limits = jsz.get("config") or {}
    return Reading(
        server=varz["server_name"],
        version=varz["version"],
        health="ok" if healthz.get("status") == "ok" else str(healthz.get("error") or healthz.get("status")),
        cpu=float(varz["cpu"]),
        cores=int(varz["cores"]),
        memory=int(varz["mem"]),
        connections=int(varz["connections"]),
        messages_in=int(varz["in_msgs"]),
        messages_out=int(varz["out_msgs"]),
        slow_consumers=int(varz.get("slow_consumers", 0)),
        storage=int(jsz.get("storage", 0)),
        max_storage=int(limits.get("max_storage", 0)),
        js_memory=int(jsz.get("memory", 0)),
        max_js_memory=int(limits.get("max_memory", 0)),
        reserved_storage=int(jsz.get("reserved_storage", 0)),
        reserved_memory=int(jsz.get("reserved_memory", 0)),
        streams=int(jsz.get("streams", 0)),
        asked=asked,
        routes=int(varz["routes"]) if "routes" in varz else None,
        meta=_meta(jsz.get("meta_cluster")),
    )


def _meta(raw: Mapping[str, Any] | None) -> MetaGroup | None:
    if not raw:
        return None
    replicas = tuple(
        Replica(
            each["name"],
            current=bool(each.get("current")),
            active=int(each.get("active", 0)),
            offline=bool(each.get("offline")),
            peer=each.get("peer", ""),
            lag=int(each.get("lag", 0)),
        )
        for each in raw.get("replicas") or ()
    )
    return MetaGroup(raw.get("leader", ""), int(raw.get("cluster_size", 0)), replicas)
