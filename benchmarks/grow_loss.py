"""Growing while programs write: how long nobody acknowledged them, and what is missing afterwards.

A forest of this machine that holds many messages grows, from one node to three and from three to four, beside
publishers, readers, a work queue, a bucket and an object store (tests/flows/traffic.py). The outage is the
longest time in which one of the publishers got no acknowledgement; every message that was acknowledged, then
or before, is looked up in its stream. Of several rounds the worst counts.
"""

import asyncio
import contextlib
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from nats.js.api import StreamConfig

from benchmarks.flows import served
from benchmarks.result import Result
from morpheus.forest import Forest
from morpheus.nats.config import client_url
from tests.flows.traffic import PATIENCE, Traffic, connection, contents, insist, used
from tests.nats.grove import wait_for

AT_ONCE = 2000  # of those that wait for their acknowledgement
ROUNDS = 3
GROWTHS = {  # from and to how many nodes, messages that it holds, seconds of outage at most
    "1_to_3": (1, 3, 100_000, 12.0),  # all of which move
    "3_to_4": (3, 4, 10_000, 3.0),
}
GOING_ON = 1000  # messages that programs write when it has grown
HELD = "held"  # the stream of the many


def run() -> Result:
    figures: dict[str, float] = {}
    goals: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)):
        for growth, (before, after, messages, outage) in GROWTHS.items():
            rounds = [_measured(before, after, messages) for _ in range(ROUNDS)]
            for figure in rounds[0]:
                kind = statistics.median if "until" in figure else max
                figures[f"{growth}_{figure}"] = kind([each[figure] for each in rounds])
            goals |= {f"{growth}_outage": outage, f"{growth}_lost": 0, f"{growth}_twice": 0}
    return Result("grow_loss", figures, goals)


def _measured(before: int, after: int, messages: int) -> dict[str, float]:
    """One forest that grows, once."""
    from flows.grow import grow  # noqa: PLC0415  # after Prefect's settings
    from flows.plant import plant  # noqa: PLC0415
    from flows.teardown import teardown  # noqa: PLC0415

    forest = plant("bench", nodes=before, cloud="local").forest
    try:
        held = asyncio.run(_filled(forest, messages))
        quiet = contextlib.redirect_stdout(sys.stderr)  # on stdout is the result alone
        with quiet, used(Traffic(forest, copies=before)) as programs:
            grown = grow("bench", nodes=after)
            written = programs.acknowledged + GOING_ON
            wait_for(lambda: programs.acknowledged, lambda seen: seen > written)
        lost, twice = asyncio.run(_missing(grown.forest, {HELD: held, **programs.kept}))
        if not lost:
            programs.check()  # the positions of readers, the work queue, the bucket, the objects
    finally:
        teardown("bench")
    return {
        "outage": programs.gap,
        "lost": lost,
        "twice": twice,
        "acknowledged": len(held) + programs.acknowledged,
        **{f"until_{phase}": seconds for phase, seconds in grown.phases.items()},
    }


def _urls(forest: Forest) -> list[str]:
    return [client_url(node) for node in forest.staying]


async def _filled(forest: Forest, messages: int) -> Sequence[str]:
    """Let *forest* hold so many *messages*; their ids, all acknowledged."""
    ids = [f"{HELD}-{k}" for k in range(messages)]
    async with connection(_urls(forest)) as client:
        stream = client.jetstream(timeout=10)
        config = StreamConfig(name=HELD, subjects=[HELD], num_replicas=len(forest.staying))
        await insist(lambda: stream.add_stream(config))
        for k in range(0, messages, AT_ONCE):
            some = [(each.encode(), {"Nats-Msg-Id": each}) for each in ids[k : k + AT_ONCE]]
            sent = [await stream.publish_async(HELD, body, headers=headers) for body, headers in some]
            await asyncio.wait_for(asyncio.gather(*sent), PATIENCE)
    return ids


async def _missing(forest: Forest, written: Mapping[str, Sequence[str]]) -> tuple[int, int]:
    """How many of the messages that were *written* to each stream are not there, and how many twice."""
    lost = twice = 0
    async with connection(_urls(forest)) as client:
        stream = client.jetstream(timeout=10)
        for name, ids in written.items():
            found = Counter(await contents(stream, name))
            lost += sum(not found[each] for each in ids)
            twice += sum(number > 1 for number in found.values())
    return lost, twice
