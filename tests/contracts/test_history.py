"""The history is kept beside whatever store keeps the registry, by as many writers as there are."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from morpheus.forest import Forest
from morpheus.history import History
from morpheus.registry import care
from morpheus.registry.care import Place
from morpheus.trend import Kind, Point
from tests.contracts.places import KINDS, PLACES, PLACES_FOR_MANY
from tests.growth.sample import NOW, minutes
from tests.vault.sample import forest, recorded

WRITERS, EACH = 4, 3


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return KINDS[request.param](request, tmp_path)


@pytest.mark.parametrize("place", PLACES, indirect=True)
def test_readings_are_kept_found_moved_and_removed(place: Place) -> None:
    oak = recorded(place, forest())
    first = Point(NOW - minutes(5), 3, {Kind.CPU: 12.5, Kind.DISK: 40.0}, 7, 1.5, None)
    second = Point(NOW, 3, {Kind.CPU: 20.0}, None, None, None)

    assert History(place, oak).read() == ()
    assert History(place, oak).add(second)
    assert History(place, oak).add(first)
    assert History(place, oak).read() == (first, second)
    assert place(None).beside() == ["readings/oak"]

    History(place, oak).delete()
    History(place, oak).delete()
    assert History(place, oak).read() == ()
    assert place(None).beside() == []
    assert History(place, oak).add(first)
    assert History(place, oak).read() == (first,)


@pytest.mark.parametrize("place", PLACES_FOR_MANY, indirect=True)
def test_of_several_writers_none_loses_a_reading(place: Place) -> None:
    oak: Forest = recorded(place, forest())
    barrier = Barrier(WRITERS, timeout=30)

    def write(writer: int) -> bool:
        barrier.wait()
        points = (Point(NOW + minutes(10 * writer + k), writer) for k in range(EACH))
        return all(History(place, oak).add(each) for each in points)

    with ThreadPoolExecutor(WRITERS) as pool:
        kept = list(pool.map(write, range(WRITERS)))

    assert kept == [True] * WRITERS
    found = [(each.nodes, each.at) for each in History(place, oak).read()]
    assert found == [
        (writer, NOW + minutes(10 * writer + k)) for writer in range(WRITERS) for k in range(EACH)
    ]


def test_a_registry_that_moves_takes_the_readings_along(tmp_path: Path) -> None:
    old, new = (KINDS["local"](None, tmp_path / name) for name in ("old", "new"))  # type: ignore[arg-type]
    oak = recorded(old, forest())
    History(old, oak).add(Point(NOW, 3))

    care.migrate(old, new)

    assert History(new, oak).read() == (Point(NOW, 3),)
