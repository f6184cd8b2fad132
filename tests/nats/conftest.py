"""Real nats-server processes: one cluster that all gentle tests share, and others for those that break it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from morpheus.machine import binaries
from morpheus.nats import archive
from morpheus.nats.admin import connected
from morpheus.nats.archive import Archive
from tests.nats.grove import Grove, standing
from tests.nats.kinds import fill, save_all

Planter = Callable[..., Grove]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grove]:
    """Three nodes that form a cluster; who uses it leaves it as it was."""
    with standing(tmp_path_factory.mktemp("cluster"), 1, 2, 3) as grove:
        yield grove


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


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grove]:
    """A forest of one whose streams are of every kind, with readers in the middle of them."""
    with standing(tmp_path_factory.mktemp("old"), 1) as grove:
        asyncio.run(fill(grove))
        yield grove


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grove]:
    with standing(tmp_path_factory.mktemp("new"), 1, 2, 3) as grove:
        yield grove


@pytest.fixture(scope="module")
def archives(old: Grove, tmp_path_factory: pytest.TempPathFactory) -> tuple[Archive, ...]:
    return save_all(old, tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="module")
def restored(new: Grove, archives: tuple[Archive, ...]) -> tuple[Archive, ...]:
    """The archives, once all of them are in the new cluster."""

    async def run() -> None:
        async with connected(new.urls()) as client:
            for each in archives:
                await archive.restore(client, each, 3)
            await archive.check_restored(client, archives, 3)

    asyncio.run(run())
    return archives
