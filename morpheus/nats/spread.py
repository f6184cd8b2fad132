"""Which streams make use of new servers: one move after another, each decided on what is seen then; pure."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from morpheus.nats.streams import Streams


@dataclass(frozen=True, slots=True)
class Move:
    """One step of one stream: a copy leaves the server *away*, or the server *to* becomes its leader."""

    stream: str
    away: str = ""
    to: str = ""


def next_move(
    streams: Streams, servers: Sequence[str], fresh: Collection[str], done: Collection[Move] = ()
) -> Move | None:
    """The next move after those *done*; None when the *fresh* ones of the *servers* have their share.

    Where a copy goes is the cluster's choice, so each stream gives away one copy at most, and leads once.
    """
    return _copy(streams, servers, fresh, done) or _leader(streams, fresh, done, len(servers))


def _copy(
    streams: Streams, servers: Sequence[str], fresh: Collection[str], done: Collection[Move]
) -> Move | None:
    held = Counter(server for name in streams.replicas for server in streams.servers.get(name, ()))
    share = held.total() // len(servers)
    moved = {move.stream for move in done if move.away}
    for server in sorted(fresh, key=lambda each: (held[each], each)):
        if held[server] >= share:
            continue
        for donor in sorted({*servers} - {*fresh}, key=lambda each: (-held[each], each)):
            if held[donor] <= share:
                break
            for name in streams.on(donor):
                there = streams.servers[name]
                whole = streams.current[name] >= streams.replicas[name]
                if whole and name not in moved and server not in there and not streams.tags.get(name):
                    return Move(name, away=donor)
    return None


def _leader(streams: Streams, fresh: Collection[str], done: Collection[Move], servers: int) -> Move | None:
    leads = Counter(streams.leaders.values())
    share = len(streams.leaders) // servers
    moved = {move.stream for move in done if move.to}
    for server in sorted(fresh, key=lambda each: (leads[each], each)):
        if leads[server] >= share:
            continue
        for name in sorted(
            streams.on(server), key=lambda each: (-leads[streams.leaders.get(each, "")], each)
        ):
            leader = streams.leaders.get(name, "")
            if leader not in fresh and name not in moved and leads[leader] > share:
                return Move(name, to=server)
    return None
