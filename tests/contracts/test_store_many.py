"""The contract of the Store port, where it takes many requests: writers that race, and many backups."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from morpheus.errors import RegistryConflictError, TransientError
from morpheus.registry import Store
from morpheus.registry.care import Place
from tests.contracts.places import KINDS, PLACES_FOR_MANY


@pytest.fixture(params=PLACES_FOR_MANY)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return KINDS[request.param](request, tmp_path)


def test_of_two_writers_that_expect_the_same_exactly_one_wins(store: Store) -> None:
    version = store.write("start", None, backup=False)
    barrier = threading.Barrier(2, timeout=30)

    def write(text: str) -> str | None:
        barrier.wait()
        try:
            return store.write(text, version, backup=True)
        except RegistryConflictError:
            return None

    with ThreadPoolExecutor(2) as pool:
        for k in range(40):
            texts = [f"{k} of the first", f"{k} of the second"]
            written = list(pool.map(write, texts))

            winners = [(text, each) for text, each in zip(texts, written, strict=True) if each]
            assert winners == [store.read()[:2]]
            version = winners[0][1]


def test_of_many_first_writers_exactly_one_wins(store: Store) -> None:
    barrier = threading.Barrier(10, timeout=30)

    def write(k: int) -> int | None:
        barrier.wait()
        try:
            store.write(f"writer {k}", None, backup=False)
        except (RegistryConflictError, TransientError):
            return None
        return k

    with ThreadPoolExecutor(10) as pool:
        winners = [k for k in pool.map(write, range(10)) if k is not None]

    assert [f"writer {k}" for k in winners] == [store.read().text]


def test_the_newest_twenty_backups_are_kept_newest_first(store: Store) -> None:
    version = store.write("text 0", None, backup=False)
    for k in range(1, 51):
        version = store.write(f"text {k}", version, backup=True)
        assert [backup.text for backup in store.backups()] == [
            f"text {each}" for each in range(k - 1, max(k - 21, -1), -1)
        ]
