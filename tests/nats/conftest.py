"""Real nats-server processes: one cluster that all gentle tests share, and others for those that break it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from morpheus.machine import binaries
from tests.nats.grove import Grove

Planter = Callable[..., Grove]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grove]:
    """Three nodes that form a cluster; who uses it leaves it as it was."""
    grove = Grove(tmp_path_factory.mktemp("cluster"), 1, 2, 3)
    try:
        grove.start()
        grove.wait_formed()
        yield grove
    finally:
        grove.close()


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Planter]:
    """Plants forests that end with the test: ``plant(1, 2, 3)`` has machines, but nothing runs yet."""
    with ExitStack() as stack:

        def planted(*numbers: int) -> Grove:
            grove = Grove(tmp_path, *numbers)
            stack.callback(grove.close)
            return grove

        yield planted


@pytest.fixture(scope="session")
def nats_server() -> str:
    return str(binaries.nats_server(None, Path("/nowhere"), "").path)
