"""What can never move away is known before anything moves; what might is tried."""

from dataclasses import replace

import pytest

from morpheus.errors import RefusedError
from morpheus.nats import room
from morpheus.nats.monitor import Reading
from morpheus.nats.streams import Streams

GIB = 1024**3


def streams(**stands: str) -> Streams:
    """Streams by the letters of the servers that have a copy."""
    servers = {name: frozenset(where) for name, where in stands.items()}
    copies = {name: len(where) for name, where in stands.items()}
    return Streams((), copies, copies, servers, dict.fromkeys(stands, GIB))


def rest(*free: int, used: int = 0) -> dict[str, Reading]:
    """The servers a, b, c, ... with so many GiB left."""
    return {
        name: Reading(server=name, max_storage=each * GIB + used, storage=used)
        for name, each in zip("abcdefg", free, strict=False)
    }


@pytest.mark.parametrize(
    ("seen", "others"),
    [
        (streams(), rest(0, 0, 0)),
        (streams(one="a", two="abc"), rest(1, 1, 1)),  # it has none of them
        (streams(one="x"), rest(0, 0, 1)),
        (streams(one="x", two="x"), rest(0, 0, 2)),
        (streams(three="xab"), rest(1, 1, 1)),
        (streams(one="x", other="a"), rest(1, 0, 1)),  # what a promised is not free, c is
        (streams(one="x"), {**rest(0, 0), "c": Reading(error="away")}),  # nobody knows
        (replace(streams(one="x"), sizes={"one": 0}), rest(0, 0, 0)),  # in memory
        (replace(streams(one="x"), tags={"one": frozenset({"a"})}), rest(9, 9, 9)),
    ],
)
def test_what_may_find_a_place_is_tried(seen: Streams, others: dict[str, Reading]) -> None:
    room.check("x", seen, others)


@pytest.mark.parametrize(
    ("seen", "others", "words"),
    [
        (streams(wide="xabc"), rest(9, 9, 9), "the stream wide has more copies than the 3"),
        (streams(wide="xabc", all="xabc"), rest(9, 9, 9), "each of the streams all, wide has more"),
        (replace(streams(one="x"), tags={"one": frozenset("x")}), rest(9, 9, 9), "bound to it"),
        (streams(one="x"), rest(0, 0, 0), r"the stream one needs 1.0 GB, and the others have 0 B"),
        (streams(three="xab"), rest(9, 9, 0), "the stream three needs 1.0 GB"),  # a and b have it
        (streams(one="x", two="x"), rest(0, 0, 1), r"what it holds needs 2.0 GB, .* 1.0 GB"),
        (streams(one="x", other="a"), rest(1, 0, 0), "the stream one needs"),  # a promised it away
        (streams(one="x"), rest(0, 0, 0, used=GIB), "the stream one needs"),
    ],
)
def test_what_never_finds_one_is_refused(seen: Streams, others: dict[str, Reading], words: str) -> None:
    with pytest.raises(RefusedError, match=f"^x cannot leave: .*{words}"):
        room.check("x", seen, others)
