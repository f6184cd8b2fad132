"""Streams and programs make use of new nodes: a few copies and leaders move there, and some connections."""

import asyncio
import contextlib
import logging

from prefect import task

from morpheus.cloud import Cloud
from morpheus.errors import NotReadyError
from morpheus.nats import admin, clients, spread, streams
from morpheus.nats.access import Access
from morpheus.nats.spread import Move
from morpheus.nats.streams import Streams
from morpheus.registry.lease import Hold
from morpheus.wait import wait_until
from morpheus.watch import client_urls
from tasks._retry import RETRYING

log = logging.getLogger("morpheus.grow")

WHOLE = 300.0  # seconds until a stream that moved is complete again
LED = 10.0  # seconds until a stream is led by another one, if ever


@task(task_run_name="spread-{hold.forest.name}", **RETRYING)
def spread_streams(cloud: Cloud, hold: Hold, access: Access, fresh: tuple[str, ...]) -> tuple[Move, ...]:
    """Let the nodes *fresh* have their share of copies and leaders; all streams are whole between two moves.

    Raises:
        NotReadyError: a stream is not complete again in time; no other is touched then.
        MachineError: the servers cannot move streams.
    """
    done: list[Move] = []
    servers = [node.name for node in hold.forest.staying]
    while move := spread.next_move(_whole(cloud, hold, access), servers, fresh, done):
        hold.check()
        with client_urls(hold.forest.staying, cloud) as urls:
            if move.away:
                asyncio.run(admin.move_copy(urls, access.app_seed, move.stream, move.away))
            else:
                asyncio.run(admin.move_leader(urls, access.app_seed, move.stream, move.to))
        done.append(move)
        if move.away:
            _whole(cloud, hold, access, move)
        else:
            with contextlib.suppress(NotReadyError):  # whom it prefers is a wish
                _whole(cloud, hold, access, move, timeout=LED)
        log.info("%s: %s %s", move.stream, "left" if move.away else "was given to", move.away or move.to)
    return tuple(done)


@task(task_run_name="share-programs-{hold.forest.name}", **RETRYING)
def spread_programs(cloud: Cloud, hold: Hold, access: Access, fresh: tuple[str, ...]) -> int:
    """Send away the programs that an old node has beyond its share, if they know others; how many these are.

    Each connects again by itself, and chooses where.
    """
    servers = [node.name for node in hold.forest.staying]
    with client_urls(hold.forest.staying, cloud) as urls:
        guests = asyncio.run(clients.census(urls, access.system_seed, servers))
        leaving = clients.superfluous(guests, fresh)
        hold.check()
        asyncio.run(clients.send_away(urls, access.system_seed, leaving))
    count = sum(map(len, leaving.values()))
    if count:
        log.info("%s: %d connection(s) of programs were sent to other nodes", hold.forest.name, count)
    return count


def _whole(
    cloud: Cloud, hold: Hold, access: Access, move: Move | None = None, *, timeout: float = WHOLE
) -> Streams:
    """The streams, when each of them has a leader and all its copies, and *move* has come to its end."""

    def late() -> tuple[Streams, tuple[str, ...]]:
        with client_urls(hold.forest.staying, cloud) as urls:
            seen = asyncio.run(streams.streams(urls, access.app_seed))
        under_way = (move.stream,) if move and not _has_come(seen, move) else ()
        return seen, (*seen.behind(), *under_way)

    seen, _ = wait_until(
        f"the streams of {hold.forest.name} to be complete",
        late,
        lambda told: not told[1],
        lambda told: f"not yet: {', '.join(told[1])}",
        timeout=timeout,
        interval=0.1,
    )
    return seen


def _has_come(seen: Streams, move: Move) -> bool:
    if move.away:
        return move.away not in seen.servers.get(move.stream, {move.away})
    return seen.leaders.get(move.stream, move.to) == move.to
