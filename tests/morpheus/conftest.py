"""A registry in a file."""

from pathlib import Path

import pytest

from morpheus.registry import Registry
from morpheus.registry.local import LocalStore
from tests.morpheus.planting import planted


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "registry.json")


@pytest.fixture
def registry(store: LocalStore) -> Registry:
    """A registry of two forests that were recorded one after the other."""
    registry = Registry(store)
    for name in ("oak", "elm"):
        registry.update(lambda document, _, name=name: document.with_forest(planted(name)))  # type: ignore[misc]
    return registry
