"""Where the streams of a cluster stand: who has copies of them, what would go with lost servers."""

import json
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import nats.errors

from morpheus.errors import UnreachableError
from morpheus.machine import ACCOUNT
from morpheus.nats.admin import LIST_TIMEOUT, api, connected, stream_names


@dataclass(frozen=True, slots=True)
class Streams:
    """What the cluster knows of its streams, in the application's account.

    ``missing`` are assigned but gave no answer within 4 s: their only node or the majority of their nodes is
    away, or just busy. What is lost for ever is told by :func:`at_risk`.
    ``replicas`` says how many copies each answering stream is meant to have, ``current`` how many it has, and
    ``servers`` who has one, up to date or not; a server in no cluster tells no names. ``sizes`` are the bytes
    on disk that each copy takes, or was promised; ``tags`` what a stream demands of the servers it stands on;
    ``leaders`` who leads it.
    """

    missing: tuple[str, ...]
    replicas: Mapping[str, int]
    current: Mapping[str, int]
    servers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, frozenset[str]] = field(default_factory=dict)
    leaders: Mapping[str, str] = field(default_factory=dict)

    def behind(self, lost: Collection[str] = ()) -> tuple[str, ...]:
        """The streams, but for the *lost* ones, that do not answer or have fewer copies than they should."""
        fewer = (name for name, meant in self.replicas.items() if self.current[name] < meant)
        return tuple(sorted({*self.missing, *fewer} - {*lost}))

    def on(self, server: str) -> tuple[str, ...]:
        """The streams of which *server* has a copy, as far as they answer."""
        return tuple(sorted(name for name, servers in self.servers.items() if server in servers))


async def streams(urls: Sequence[str], seed: str) -> Streams:
    """List all streams of the application's account, page by page."""
    missing: set[str] = set()
    replicas: dict[str, int] = {}
    current: dict[str, int] = {}
    servers: dict[str, frozenset[str]] = {}
    sizes: dict[str, int] = {}
    tags: dict[str, frozenset[str]] = {}
    leaders: dict[str, str] = {}
    async with connected(urls, seed) as client:
        while True:
            seen = len(missing | replicas.keys())
            page = await api(client, "$JS.API.STREAM.LIST", {"offset": seen}, timeout=LIST_TIMEOUT)
            missing |= set(page.get("missing") or [])
            for each in page.get("streams") or []:
                name = each["config"]["name"]
                replicas[name] = each["config"]["num_replicas"]
                current[name] = current_copies(each.get("cluster"))
                servers[name] = _servers(each.get("cluster") or {})
                sizes[name] = _size(each)
                tags[name] = frozenset((each["config"].get("placement") or {}).get("tags") or [])
                leaders[name] = (each.get("cluster") or {}).get("leader") or ""
            if len(missing | replicas.keys()) in (seen, page.get("total", 0)):
                return Streams(tuple(sorted(missing)), replicas, current, servers, sizes, tags, leaders)


def current_copies(cluster: Mapping[str, Any] | None) -> int:
    """How many copies of a stream are up to date; a server in no cluster speaks of none, and has one."""
    if cluster is None:
        return 1
    followers = [peer for peer in cluster.get("replicas") or [] if peer.get("current")]
    return len(followers) + bool(cluster.get("leader"))


def _servers(cluster: Mapping[str, Any]) -> frozenset[str]:
    followers = {peer["name"] for peer in cluster.get("replicas") or []}
    return frozenset({*followers, cluster.get("leader") or ""} - {""})


def _size(stream: Mapping[str, Any]) -> int:
    """The bytes on disk of one copy; of a stream with a limit all of them are promised to it."""
    if stream["config"].get("storage") == "memory":
        return 0
    return max(int(stream["state"]["bytes"]), int(stream["config"].get("max_bytes", 0)))


@dataclass(frozen=True, slots=True)
class AtRisk:
    """What goes with the servers that are away, if they never come back; streams by their names.

    ``lost`` had all their copies there: once the peers are removed, NATS makes some of them anew, empty, and
    nothing shows that anything was in them. ``weakened`` have copies left, but no majority of them, so that
    the last acknowledged messages may stand only on what is away: nothing here can tell. (Of two copies each
    has every acknowledged message.) ``leaderless`` have a majority that has not agreed on a leader yet: until
    it has, an empty newcomer could vote for the copy that lacks messages.
    """

    lost: tuple[str, ...] = ()
    weakened: tuple[str, ...] = ()
    leaderless: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy:
    """A stream as one server holds it: how many copies it is to have, whom the server calls its leader."""

    name: str
    replicas: int
    leader: str


async def at_risk(urls: Sequence[str], app_seed: str, system_seed: str, survivors: Collection[str]) -> AtRisk:
    """Tell what would be lost if only the servers *survivors* were left; ask before peers are removed.

    The meta leader names every stream there is meant to be, and the survivors say which they hold.

    Raises:
        UnreachableError: there is no leader, or a survivor does not answer; then nobody knows.
    """
    async with connected(urls, app_seed) as client:
        names = await stream_names(client)
    held = await _held(urls, system_seed, survivors)
    copies = Counter(copy.name for each in held.values() for copy in each)
    meant = {copy.name: copy.replicas for each in held.values() for copy in each}
    # What a server says of a stream that it does not lead itself may be old.
    led = {copy.name for server, each in held.items() for copy in each if copy.leader == server}
    some = [name for name in names if copies[name]]
    minor = {name for name in some if 2 * copies[name] <= meant[name]}
    return AtRisk(
        lost=tuple(sorted(set(names) - set(some))),
        weakened=tuple(sorted(name for name in minor if meant[name] > 2)),  # noqa: PLR2004  # copies
        leaderless=tuple(sorted(set(some) - minor - led)),
    )


async def _held(urls: Sequence[str], system_seed: str, servers: Collection[str]) -> dict[str, list[Copy]]:
    """For each of *servers* the application's streams it holds."""
    held: dict[str, list[Copy]] = {}
    wanted = {"accounts": True, "streams": True, "config": True}
    async with connected(urls, system_seed) as client:
        inbox = client.new_inbox()
        answers = await client.subscribe(inbox)
        await client.publish("$SYS.REQ.SERVER.PING.JSZ", json.dumps(wanted).encode(), reply=inbox)
        deadline = time.monotonic() + LIST_TIMEOUT
        while missing := set(servers) - held.keys():
            try:
                message = await answers.next_msg(timeout=max(0.001, deadline - time.monotonic()))
            except (nats.errors.Error, TimeoutError) as error:
                raise UnreachableError(f"{', '.join(sorted(missing))} did not tell their streams.") from error
            answer = json.loads(message.data)
            held[answer["server"]["name"]] = _application_streams(answer.get("data") or {})
    return {name: held[name] for name in servers}


def _application_streams(jsz: Mapping[str, Any]) -> list[Copy]:
    accounts = [each for each in jsz.get("account_details") or [] if each["name"] == ACCOUNT]
    return [
        Copy(each["name"], each["config"]["num_replicas"], (each.get("cluster") or {}).get("leader", ""))
        for account in accounts
        for each in account.get("stream_detail") or []
    ]
