"""A simulator in which everything is done at the next look, and clients of it."""

from collections.abc import Callable, Iterator

import hcloud
import pytest
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.server_types import ServerType
from hcloud.servers import ServerCreatePublicNetwork
from hcloud.servers.client import CreateServerResponse

from tests.simulator import Latency, Simulator

Order = Callable[..., CreateServerResponse]
IPV6_ONLY = ServerCreatePublicNetwork(enable_ipv4=False, enable_ipv6=True)


def client_of(simulator: Simulator, token: str | None = None, timeout: float = 10) -> hcloud.Client:
    """A client that does not wait long between two requests."""
    url = f"{simulator.url}/v1"
    client = hcloud.Client(
        token or simulator.token,
        api_endpoint=url,
        api_endpoint_hetzner=url,
        poll_interval=0.01,
        timeout=timeout,
    )
    for each in (client._client, client._client_hetzner):
        each._retry_interval_func = lambda _: 0.01
    return client


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """Runs; a test that leaves violations of the schema fails."""
    simulator = Simulator(latency=Latency(scale=0))
    with simulator.running():
        yield simulator
    assert simulator.violations == []


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
