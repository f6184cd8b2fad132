"""A history is bounded, belongs to one planting, and stops nobody, whatever stands in its place."""

import itertools
import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from morpheus import history
from morpheus.errors import RegistryBrokenError, RegistryConflictError, StoreBusyError
from morpheus.history import MOST, History, parse, render, thinned
from morpheus.registry import Snapshot
from morpheus.trend import Kind, Point
from tests.fakes import MemoryStore
from tests.growth.sample import NOW, minutes, oak

OAK = oak(run="run-1")


def points(number: int) -> list[Point]:
    return [Point(NOW + minutes(k), 3, {Kind.CPU: float(k % 100)}) for k in range(number)]


def test_a_reading_comes_back_as_it_was_kept() -> None:
    kept = Point(NOW, 3, {Kind.CPU: 12.5, Kind.STORAGE: 0.0}, connections=0, rate_in=1.5)

    assert parse(render(OAK, [kept]), OAK) == (kept,)


def test_there_are_never_more_than_so_many_and_old_ones_lie_further_apart() -> None:
    known: list[Point] = []
    for each in points(3 * MOST):
        known = list(thinned([*known, each]))
        assert len(known) <= MOST

    gaps = [after.at - before.at for before, after in itertools.pairwise(known)]
    assert known[-1] == points(3 * MOST)[-1]
    assert known[0].at == NOW
    assert gaps[-100:] == [minutes(1)] * 100
    assert gaps == sorted(gaps, reverse=True)
    assert len(render(OAK, known)) < 60_000


def test_what_an_earlier_planting_left_counts_for_none() -> None:
    store = MemoryStore()
    History(store.place, OAK).add(Point(NOW, 3))
    again = replace(OAK, run="run-2")

    assert History(store.place, again).read() == ()
    assert History(store.place, again).add(Point(NOW + minutes(1), 1))
    assert [each.nodes for each in History(store.place, again).read()] == [1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        "7",
        '{"version": 1, "planting": "run-1", "fields": ["at"], "readings": [[1, 2]]}',
        '{"version": 1, "planting": "run-1", "fields": ["at"], "readings": [[1]]}',
        '{"version": 1, "planting": "run-1", "fields": ["at", "nodes"], "readings": [[1e300, 2]]}',
        '{"version": 1, "planting": "run-1", "fields": ["at", "nodes"], "readings": [["x", 2]]}',
        '{"version": 1, "planting": "run-1", "fields": null, "readings": [[1, 2]]}',
    ],
)
def test_what_cannot_be_read_begins_anew(text: str, caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    store.place("readings/oak").put(text)
    kept = History(store.place, OAK)

    assert kept.read() == ()
    assert kept.add(Point(NOW, 3))
    assert kept.read() == (Point(NOW, 3),)
    assert "begin anew" in caplog.text


def test_a_field_that_a_later_version_adds_is_no_fault() -> None:
    raw = json.loads(render(OAK, [Point(NOW, 3)]))
    raw["fields"].append("moon")
    raw["readings"][0].append("full")

    assert parse(json.dumps(raw), OAK) == (Point(NOW, 3),)


def test_what_a_newer_morpheus_keeps_is_left_alone() -> None:
    store, newer = MemoryStore(), '{"version": 2, "planting": "run-1"}'
    store.place("readings/oak").put(newer)

    assert not History(store.place, OAK).add(Point(NOW, 3))
    assert History(store.place, OAK).read() == ()
    assert store.place("readings/oak").read().text == newer


class _Losing(MemoryStore):
    """A store in which another writer is always first."""

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        raise RegistryConflictError("Another writer changed it.")


class _Away(MemoryStore):
    """A store that gives no answer."""

    error: Exception = StoreBusyError("It gives no answer.")

    def read(self) -> Snapshot:
        raise self.error


class _Broken(_Away):
    error = RegistryBrokenError("Its folder cannot be read.")


@pytest.mark.parametrize("kind", [_Losing, _Away, _Broken])
def test_a_store_that_takes_nothing_stops_nobody(
    kind: type[MemoryStore], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(history, "TIMEOUT", 0.2)
    store = kind()

    with caplog.at_level(logging.WARNING):
        assert not History(lambda _: store, OAK).add(Point(NOW, 3))
        assert History(lambda _: store, OAK).read() == ()

    assert "was not kept" in caplog.text


def test_times_are_those_of_the_store_in_utc() -> None:
    at = datetime(2026, 11, 1, 13, 0, 0, 400_000, tzinfo=UTC) + timedelta(hours=1)

    assert parse(render(OAK, [Point(at, 1)]), OAK)[0].at == at
