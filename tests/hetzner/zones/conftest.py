"""A zone in a simulated project, and devices that give nodes names in it."""

from pathlib import Path

import hcloud
import pytest
from hcloud.zones import BoundZone

from morpheus.cloud.hetzner import HetznerCloud, actions
from morpheus.settings import DnsSettings, FirewallSettings, Ipv4Settings
from tests.hetzner.project import machine_settings
from tests.hetzner.zones.records import Make
from tests.simulator import Simulator


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_LOOK", "TICK"):
        monkeypatch.setattr(actions, name, 0.01)


@pytest.fixture
def client(simulator: Simulator) -> hcloud.Client:
    """The Cloud Console, or somebody else in the project."""
    return hcloud.Client(simulator.token, api_endpoint=f"{simulator.url}/v1")


@pytest.fixture
def zone(client: hcloud.Client) -> BoundZone:
    return client.zones.create(name="example.com", mode="primary").zone


@pytest.fixture
def make(simulator: Simulator, tmp_path: Path) -> Make:
    def made(domain: str | None = "example.com", *, ttl: int = 300, ipv4: bool = False) -> HetznerCloud:
        machine = machine_settings(simulator, tmp_path)
        machine = machine.model_copy(update={"ipv4": Ipv4Settings(enabled=ipv4)})
        dns = DnsSettings(provider="hetzner", domain=domain, ttl=ttl) if domain else DnsSettings()
        return HetznerCloud(machine, FirewallSettings(), dns)

    return made


@pytest.fixture(params=[None, "elsewhere.org"])
def other_device(request: pytest.FixtureRequest, make: Make, client: hcloud.Client) -> HetznerCloud:
    """A device whose settings name no domain, or one of another zone that is there."""
    client.zones.create(name="elsewhere.org", mode="primary")
    return make(request.param)
