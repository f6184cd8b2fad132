"""A simulator in which everything is done at the next look, and a client of it."""

from collections.abc import Iterator
from datetime import UTC, datetime

import hcloud
import pytest
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.server_types import ServerType

from tests.simulator import Latency, Simulator
from tests.simulator.clients import IPV6_ONLY, Order, client_of


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """Runs; a test that leaves violations of the schema fails."""
    simulator = Simulator(latency=Latency(scale=0))
    with simulator.running():
        yield simulator
    assert simulator.violations == []


@pytest.fixture
def slow() -> Simulator:
    """Latencies of the default, on a clock that moves only when told."""
    simulator = Simulator()
    now = datetime(2026, 11, 1, tzinfo=UTC)
    simulator.clock = lambda: now
    return simulator


@pytest.fixture
def client(simulator: Simulator) -> Iterator[hcloud.Client]:
    client = client_of(simulator)
    yield client
    for each in (client._client, client._client_hetzner):
        each._session.close()


@pytest.fixture
def order(client: hcloud.Client) -> Order:
    """Order a server; what is not said is usual: IPv6 only, the smallest, in Falkenstein."""

    def create(name: str = "oak-node-1", kind: str = "cx23", place: str = "fsn1", **more: object) -> object:
        usual = {"image": Image(name="debian-13"), "public_net": IPV6_ONLY}
        return client.servers.create(
            name,
            ServerType(name=kind),
            location=Location(name=place),
            **{**usual, **more},  # type: ignore[arg-type]  # whatever a test wants
        )

    return create  # type: ignore[return-value]  # see above
