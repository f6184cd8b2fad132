"""A simulated project for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from morpheus.cloud.hetzner import HetznerCloud, servers
from tests.hetzner.project import provider, simulated
from tests.simulator import Simulator


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "LOOK_EVERY", 0.05)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with simulated() as simulator:
        yield simulator


@pytest.fixture
def cloud(simulator: Simulator, tmp_path: Path) -> HetznerCloud:
    return provider(simulator, tmp_path)
