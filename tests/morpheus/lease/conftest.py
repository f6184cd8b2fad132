"""A registry in memory that records the forest oak, and leases that are soon too old or renewed."""

import pytest

from morpheus.forest import Forest
from morpheus.registry import Registry
from tests.fakes import MemoryStore
from tests.morpheus.lease.holding import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock=clock)


@pytest.fixture
def registry(store: MemoryStore) -> Registry:
    """A registry that records the forest oak."""
    registry = Registry(store)
    registry.update(lambda document, _: document.with_forest(Forest("oak")))
    return registry


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof of a lease is soon too old to act upon."""
    monkeypatch.setattr("morpheus.registry.lease.FRESH", 0.2)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases are renewed all the time."""
    monkeypatch.setattr("morpheus.registry.lease.RENEW_EVERY", 0.005)
