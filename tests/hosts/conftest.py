"""A lab for all tests of this folder, in whose laptop they live, and ways to look at its hosts."""

from collections.abc import Callable, Iterator

import hcloud
import pytest

from tests.lab import Host, Lab
from tests.lab.visitors import Visitor
from tests.simulator import Latency, Simulator
from tests.simulator.clients import client_of


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    """The lab; the process lives in its laptop's network meanwhile, with all threads that begin there."""
    lab = Lab()
    try:
        with lab.laptop.entered():
            yield lab
    finally:
        lab.close()


@pytest.fixture(scope="session")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Visitor:
    return Visitor.with_new_key(tmp_path_factory.mktemp("visitor"))


@pytest.fixture
def simulator(lab: Lab) -> Iterator[Simulator]:
    """The API without latency, whose servers are hosts; they are gone after the test."""
    simulator = Simulator(latency=Latency(scale=0), hosts=lab)
    with lab.cleared(), simulator.running():
        yield simulator
    assert simulator.violations == []


@pytest.fixture
def client(simulator: Simulator) -> Iterator[hcloud.Client]:
    client = client_of(simulator)
    yield client
    for each in (client._client, client._client_hetzner):
        each._session.close()


Boot = Callable[..., Host]


@pytest.fixture
def boot(lab: Lab, visitor: Visitor) -> Iterator[Boot]:
    """Boot a host that lets the visitor in; it is gone after the test."""

    def booted(name: str = "oak-node-1", **given: object) -> Host:
        host = lab.host(name, **{"ssh_keys": [visitor.public], **given})  # type: ignore[arg-type]  # as given
        host.boot()
        return host

    with lab.cleared():
        yield booted
