"""New servers get their share of copies and of leaders, and no stream is moved about for nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from morpheus.nats.spread import Move, next_move
from morpheus.nats.streams import Streams


def streams(*stands: str, tags: dict[str, frozenset[str]] | None = None) -> Streams:
    """The streams s0, s1, ..., by the letters of their servers; the first one leads."""
    names = [f"s{k}" for k in range(len(stands))]
    copies = {name: len(each) for name, each in zip(names, stands, strict=True)}
    servers = {name: frozenset(each) for name, each in zip(names, stands, strict=True)}
    leaders = {name: each[0] for name, each in zip(names, stands, strict=True)}
    return Streams((), copies, copies, servers, leaders=leaders, tags=tags or {})


@pytest.mark.parametrize(
    ("seen", "move"),
    [
        (streams(), None),
        (streams("a"), None),  # a share is a whole one
        (streams("a", "b", "c"), None),
        (streams("a", "a", "b", "c"), Move("s0", away="a")),
        (streams("abc", "abc"), Move("s0", away="a")),
        (streams("abc", "abc", "abc", "d"), Move("s0", away="a")),
        (streams("abd", "abc", "cd"), None),
        (streams("a", "a", "a", "d"), None),
        (streams("a", "a", "b", "c", tags={"s0": frozenset("x")}), Move("s1", away="a")),
        (streams("ad", "ad", "ab", "c"), Move("s0", to="d")),
        (streams("da", "ad", "ab", "c"), None),
    ],
)
def test_the_next_move_is_the_one_that_helps_most(seen: Streams, move: Move | None) -> None:
    assert next_move(seen, "abcd", "d") == move


def test_a_stream_that_is_not_whole_waits() -> None:
    seen = streams("a", "a", "b", "c")
    behind = Streams((), seen.replicas, {**seen.current, "s0": 0}, seen.servers, leaders=seen.leaders)

    assert next_move(behind, "abcd", "d") == Move("s1", away="a")


@given(
    st.lists(st.sampled_from(["a", "b", "c", "abc", "bca", "cab"]), max_size=20),
    st.sampled_from(["d", "de"]),
    st.randoms(use_true_random=False),
)
def test_wherever_copies_go_it_comes_to_an_end_and_never_makes_it_worse(
    stands: list[str], fresh: str, places: st.DataObject
) -> None:
    servers, done, now = "abc" + fresh, list[Move](), list(stands)
    while move := next_move(streams(*now), servers, fresh, done):
        done.append(move)
        k = int(move.stream[1:])
        if move.to:
            assert move.to in now[k]
            now[k] = move.to + now[k].replace(move.to, "")
        else:
            assert move.away in now[k]
            other = places.choice(sorted({*servers} - {*now[k]}))  # type: ignore[attr-defined]
            now[k] = now[k].replace(move.away, other)

    assert [len(each) for each in now] == [len(each) for each in stands]
    assert len(done) <= 2 * len(stands)
