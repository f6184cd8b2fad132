"""A place for a registry and what stands beside it, in memory and in files."""

from pathlib import Path

import pytest

from morpheus.registry.care import Place
from morpheus.registry.local import LocalStore
from tests.fakes import MemoryStore


@pytest.fixture(params=["memory", "local"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "memory":
        return MemoryStore().place
    return lambda name: LocalStore(tmp_path / "there" / f"{name or 'registry'}.json")
