"""Flows run as they are, on a temporary Prefect server that all tests share.

NATS on the fake machines is real: whether a cluster has formed is asked over HTTP and NATS's own protocol,
and a stand-in for that would be a second NATS. So the flows that plant get :class:`tests.flows.hills.Hills`,
the one that only deletes gets the cloud in memory. The seam is where settings become a cloud and a registry,
two functions of ``morpheus.site``; blocks, flows and tasks are untouched. Flows on the simulated project get
:class:`tests.flows.valleys.Valley` in the place of SSH; the provider, vault and stores are real.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows._standby import STOOD_BY
from morpheus import site
from morpheus.cloud import Cloud
from morpheus.cloud.hetzner import HetznerCloud, servers
from morpheus.forest import Forest
from morpheus.registry import Registry
from tests.fake_cloud import FakeCloud
from tests.flows.hills import Effects, Hills, WatchedStore
from tests.flows.homes import Home
from tests.flows.served import served
from tests.flows.valleys import Valley
from tests.hetzner.project import simulated
from tests.simulator import Simulator


@pytest.fixture(scope="session", autouse=True)
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The server of a command for all flows; yields the folder with its database."""
    with served(tmp_path_factory.mktemp("prefect")) as server:
        yield server.folder


@pytest.fixture(autouse=True)
def nobody_stands_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stopped within the process of a test goes on where the test says so."""
    monkeypatch.setenv(STOOD_BY, "by the test")


@dataclass
class Land:
    """Everything that the flows of one test act upon."""

    store: WatchedStore
    effects: Effects

    @property
    def registry(self) -> Registry:
        return Registry(self.store)

    def forest(self, name: str) -> Forest:
        forest = self.registry.find(name)
        assert forest is not None
        return forest


@dataclass
class Hilly(Land):
    """A land with machines that run."""

    hills: Hills


@dataclass
class Flat(Land):
    """A land with machines in memory."""

    cloud: FakeCloud


def settle(patch: pytest.MonkeyPatch, data: Path, cloud: Cloud, store: WatchedStore) -> None:
    """Make *cloud* and *store* what the settings mean, and *data* the folder of this user."""
    patch.setenv("MORPHEUS_DATA_DIR", str(data))
    patch.setattr(site, "configured_cloud", lambda _: cloud)
    patch.setattr(site, "shared_registry", lambda _: Registry(store))
    patch.setattr(site, "open_store", lambda _, name=None: store.place(name))


@pytest.fixture
def land(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hilly]:
    effects = Effects()
    hills = Hills(tmp_path / "hills", effects)
    store = WatchedStore(hills, effects)
    settle(monkeypatch, tmp_path / "data", hills, store)
    yield Hilly(store, effects, hills)
    hills.raze()
    assert store.faults == []


@pytest.fixture
def flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flat]:
    effects, cloud = Effects(), FakeCloud()
    cloud.script.before = lambda verb, subject: effects.happens(f"{verb} {subject}")
    store = WatchedStore(cloud, effects)
    settle(monkeypatch, tmp_path / "data", cloud, store)
    yield Flat(store, effects, cloud)
    assert store.faults == []


@pytest.fixture
def valley(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Valley]:
    """Machines for the servers of the simulated project, entered in the place of SSH."""
    valley = Valley(tmp_path / "valley")
    monkeypatch.setattr(site, "_by_ssh", lambda _, key: valley.enter(key))
    yield valley
    valley.clear()


@pytest.fixture
def simulator(valley: Valley, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    monkeypatch.setattr(servers, "LOOK_EVERY", 0.05)
    with simulated(hosts=valley) as simulator:
        yield simulator


@pytest.fixture
def machines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody enters machines; for tests of servers and money, which need no clusters."""
    monkeypatch.setattr(
        site,
        "configured_cloud",
        lambda settings: HetznerCloud(settings.machine, settings.firewall, settings.dns),
    )


@pytest.fixture
def house(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Home]:
    """Makes the homes of as many users as a test needs."""
    return lambda name: Home(tmp_path / name, simulator, monkeypatch)


@pytest.fixture
def home(house: Callable[[str], Home]) -> Home:
    return house("home").settle()
