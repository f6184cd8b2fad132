"""IPv4 addresses that somebody told to outlive their server: they cost, so they are named."""

from pathlib import Path

import pytest
from hcloud.primary_ips import BoundPrimaryIP

from morpheus.cloud.hetzner import HetznerCloud
from morpheus.settings import FirewallSettings, Ipv4Settings
from tests.hetzner.project import OURS, THEIRS, machine_settings, order
from tests.simulator import Simulator
from tests.simulator.clients import client_of


@pytest.fixture
def cloud(simulator: Simulator, tmp_path: Path) -> HetznerCloud:
    settings = machine_settings(simulator, tmp_path)
    given = settings.model_copy(update={"ipv4": Ipv4Settings(enabled=True)})
    return HetznerCloud(given, FirewallSettings())


def keep(simulator: Simulator, **labels: str) -> BoundPrimaryIP:
    (address,) = (each for each in client_of(simulator).primary_ips.get_all() if each.type == "ipv4")
    address.update(auto_delete=False, labels=labels)
    return address


@pytest.mark.parametrize("labels", [{}, {"managed-by": "morpheus", "registry-id": THEIRS}])
def test_an_address_that_stays_is_told_before_and_after(
    cloud: HetznerCloud, simulator: Simulator, caplog: pytest.LogCaptureFixture, labels: dict[str, str]
) -> None:
    ip = cloud.ensure_server(order(1)).metadata["ipv4"]
    keep(simulator, **labels)

    told = cloud.holdings(OURS, "oak")[0]
    cloud.delete_server(OURS, "oak-node-1")

    assert told.endswith(f"; its primary IP {ip} stays, and costs")
    assert len(simulator.billable()) == 1
    assert f"({ip}) stays, and costs: delete it in the Cloud Console" in caplog.text


def test_an_address_with_our_labels_goes(
    cloud: HetznerCloud, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.ensure_server(order(1))
    keep(simulator, **{"managed-by": "morpheus", "registry-id": OURS})

    told = cloud.holdings(OURS, "oak")[0]
    cloud.delete_server(OURS, "oak-node-1")

    assert simulator.billable() == []
    assert "primary IP" not in told + caplog.text


def test_an_address_of_ours_that_cannot_go_is_told(
    cloud: HetznerCloud, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.ensure_server(order(1))
    address = keep(simulator, **{"managed-by": "morpheus", "registry-id": OURS})
    address.change_protection(delete=True)

    cloud.delete_server(OURS, "oak-node-1")

    assert "stays, and costs" in caplog.text
    assert "protected" in caplog.text


def test_what_goes_as_it_should_is_not_spoken_of(
    cloud: HetznerCloud, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.ensure_server(order(1))

    told = cloud.holdings(OURS, "oak")[0]
    cloud.delete_server(OURS, "oak-node-1")

    assert simulator.billable() == []
    assert "primary IP" not in told + caplog.text
