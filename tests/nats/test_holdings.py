"""What of a stream has to be the same after a move, what time may change, and which streams can move."""

from dataclasses import replace
from typing import Any

import pytest

from morpheus.errors import RefusedError
from morpheus.nats.holdings import Extent, Held, Position, Span, ages, differences, movable

EXTENT = Extent(messages=90, bytes=900, first=11, last=110, deleted=10, subjects=3)
AT = Position(delivered=50, deliveries=55, acknowledged=40, unacknowledged=8, redelivered=2, pending=60)
LATER = replace(AT, delivered=52, deliveries=58, unacknowledged=10, redelivered=3, pending=58)
READERS = {"reader": Span(AT, LATER)}


def told(found: Held, later: Held | None = None) -> list[str]:
    return list(differences(EXTENT, READERS, found, later))


@pytest.mark.parametrize("position", [AT, LATER, replace(AT, deliveries=57, redelivered=3)])
def test_a_reader_stands_where_it_stood_while_its_stream_was_copied(position: Position) -> None:
    assert told(Held(EXTENT, {"reader": position})) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"delivered": 49}, "delivered of reader 49 instead of 52"),
        ({"deliveries": 59}, "deliveries of reader 59 instead of 58"),
        ({"acknowledged": 41}, "acknowledged of reader 41 instead of 40"),
        ({"unacknowledged": 7}, "unacknowledged of reader 7 instead of 10"),
        ({"redelivered": 4}, "redelivered of reader 4 instead of 3"),
        ({"pending": 0}, "pending of reader 0 instead of 58"),
    ],
)
def test_a_reader_elsewhere_is_told(change: dict[str, int], words: str) -> None:
    assert told(Held(EXTENT, {"reader": replace(AT, **change)})) == [words]


def test_a_reader_that_lacks_is_told() -> None:
    assert told(Held(EXTENT, {})) == ["no consumer reader"]


@pytest.mark.parametrize("field", ["messages", "bytes", "first", "last", "deleted", "subjects"])
def test_every_number_of_a_stream_counts(field: str) -> None:
    other = replace(EXTENT, **{field: getattr(EXTENT, field) + 1})

    assert told(Held(other, {"reader": AT})) == [
        f"{field} {getattr(other, field)} instead of {getattr(EXTENT, field)}"
    ]


AGED = replace(EXTENT, messages=20, bytes=200, first=81, deleted=0, subjects=1)
MOVED = replace(AT, delivered=80, deliveries=80, acknowledged=80, unacknowledged=0, redelivered=0, pending=20)


def test_time_may_take_as_many_messages_as_it_took_from_the_original() -> None:
    """Those between two ends are the same, for messages go one after another."""
    half = replace(EXTENT, messages=50, bytes=500, first=51, deleted=5, subjects=2)

    for extent, position in ((EXTENT, AT), (half, LATER), (AGED, MOVED)):
        assert told(Held(extent, {"reader": position}), Held(AGED, {"reader": MOVED})) == []
    assert len(told(Held(AGED, {"reader": MOVED}))) > 5


def test_time_takes_no_more_than_it_took_from_the_original() -> None:
    later = Held(AGED, {"reader": MOVED})
    less = replace(AGED, messages=19, first=82)

    assert told(Held(less, {"reader": MOVED}), later) == [
        "messages 19 instead of 20",
        "first 82 instead of 81",
    ]
    assert told(Held(replace(EXTENT, last=109), {"reader": AT}), later) == ["last 109 instead of 110"]
    assert told(Held(EXTENT, {"reader": replace(AT, delivered=10)}), later) == [
        "delivered of reader 10 instead of 80"
    ]


@pytest.mark.parametrize(
    "config",
    [
        *({"max_age": 1}, {"allow_msg_ttl": True}),
        *({"allow_msg_schedules": True}, {"subject_delete_marker_ttl": 1}),
    ],
)
def test_streams_with_a_time_age(config: dict[str, Any]) -> None:
    assert ages(config)
    assert not ages({"max_age": 0, "allow_msg_ttl": False})


def test_what_was_never_written_to_begins_at_one() -> None:
    assert Extent.of({"first_seq": 0, "last_seq": 0}) == Extent.of({"first_seq": 1, "last_seq": 0})


def stream(name: str, retention: str = "limits", **more: Any) -> dict[str, Any]:
    return {"config": {"name": name, "retention": retention, **more}}


def test_a_mirror_comes_after_what_it_mirrors() -> None:
    chain = [stream("a", mirror={"name": "b"}), stream("b", mirror={"name": "c"}), stream("c"), stream("d")]

    assert movable(chain) == ("c", "d", "b", "a")


def test_what_is_bound_to_other_servers_is_refused() -> None:
    with pytest.raises(RefusedError, match="The streams a, b have a placement"):
        movable(
            [stream("b", placement={"tags": ["ssd"]}), stream("a", placement={"cluster": "x"}), stream("c")]
        )


@pytest.mark.parametrize(
    "stuck",
    [
        [stream("fed", sources=[{"name": "origin"}])],
        [stream("fed", mirror={"name": "origin", "external": {"api": "$JS.hub.API"}})],
        [stream("fed", mirror={"name": "elsewhere"})],
        [stream("fed", mirror={"name": "queue"}), stream("queue", "workqueue")],
        [stream("fed", mirror={"name": "listened"}), stream("listened", "interest")],
    ],
)
def test_what_would_take_messages_twice_is_refused(stuck: list[dict[str, Any]]) -> None:
    with pytest.raises(RefusedError, match="The streams fed are fed by other streams"):
        movable([stream("origin"), *stuck])
