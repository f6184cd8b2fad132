"""Names of nodes that go: with their servers, from any device, and never anybody else's."""

from concurrent.futures import ThreadPoolExecutor

import hcloud
import pytest
from hcloud.servers import BoundServer
from hcloud.zones import BoundZone

from morpheus.cloud.hetzner import HetznerCloud
from morpheus.errors import CloudError
from tests.hetzner.project import OURS, THEIRS, ensure
from tests.hetzner.zones.records import Make, foreign, names
from tests.simulator import Simulator


def test_a_name_goes_with_its_server_alone(make: Make, simulator: Simulator, zone: BoundZone) -> None:
    cloud = make()
    cloud.admit(OURS, "oak", ensure(cloud, 3))

    cloud.delete_server(OURS, "oak-node-2")

    assert list(names(simulator)) == ["oak-node-1/AAAA", "oak-node-3/AAAA"]
    assert sorted(simulator.servers) == ["oak-node-1", "oak-node-3"]


@pytest.fixture
def cloud_of_one(make: Make, zone: BoundZone) -> HetznerCloud:
    """With one server, which has its name."""
    cloud = make()
    cloud.admit(OURS, "oak", ensure(cloud, 1))
    return cloud


@pytest.fixture
def server(cloud_of_one: HetznerCloud, client: hcloud.Client) -> BoundServer:
    (server,) = client.servers.get_all()
    return server


def test_a_name_whose_server_is_gone_already_goes_as_well(
    cloud_of_one: HetznerCloud, simulator: Simulator, server: BoundServer
) -> None:
    server.delete()

    cloud_of_one.delete_server(OURS, "oak-node-1")

    assert names(simulator) == {}


def test_a_name_goes_also_from_a_device_that_gives_none_there(
    make: Make, simulator: Simulator, zone: BoundZone, other_device: HetznerCloud
) -> None:
    cloud = make()
    cloud.admit(OURS, "oak", ensure(cloud, 2))

    other_device.delete_server(OURS, "oak-node-2")

    assert list(names(simulator)) == ["oak-node-1/AAAA"]


def test_nodes_that_go_together_share_looks(make: Make, simulator: Simulator, zone: BoundZone) -> None:
    cloud = make(None)
    made = ensure(cloud, 8)
    simulator.faults.slow("GET /zones", 0.3)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: cloud.delete_server(OURS, each.name), made))

    assert simulator.requests["GET /zones"] < 8
    assert simulator.billable() == []


def test_a_server_that_stays_keeps_its_name(
    cloud_of_one: HetznerCloud, simulator: Simulator, server: BoundServer
) -> None:
    server.change_protection(delete=True, rebuild=True)

    with pytest.raises(CloudError, match="protected"):
        cloud_of_one.delete_server(OURS, "oak-node-1")

    assert list(names(simulator)) == ["oak-node-1/AAAA"]


def test_the_last_sweep_finds_names_in_every_zone(
    make: Make, simulator: Simulator, client: hcloud.Client, zone: BoundZone, other_device: HetznerCloud
) -> None:
    """Also those of nodes that nobody remembers, and from a device whose settings name no domain."""
    cloud = make()
    cloud.admit(OURS, "oak", ensure(cloud, 2))
    cloud.admit(OURS, "elm", ensure(cloud, 1, forest="elm"))
    foreign(zone, "www")
    other_device.delete_server(OURS, "oak-node-1")
    server = client.servers.get_by_name("oak-node-2")
    assert server
    server.delete()

    other_device.clear(OURS, "oak")

    assert list(names(simulator)) == ["elm-node-1/AAAA", "www/AAAA"]
    assert not [each for each in simulator.firewalls if each.startswith("oak")]


def test_two_registries_share_a_zone(make: Make, simulator: Simulator, zone: BoundZone) -> None:
    ours, theirs = make(), make()
    ours.admit(OURS, "oak", ensure(ours, 1))
    theirs.admit(THEIRS, "elm", ensure(theirs, 1, forest="elm", registry_id=THEIRS))
    simulator.zones["example.com"].rrsets["elm-node-1/AAAA"].labels["forest-id"] = "oak"

    ours.admit(OURS, "oak", [])
    ours.delete_server(OURS, "oak-node-1")
    ours.clear(OURS, "oak")

    assert list(names(simulator)) == ["elm-node-1/AAAA"]


def test_a_zone_that_is_gone_keeps_nothing_from_going(
    make: Make, simulator: Simulator, zone: BoundZone
) -> None:
    cloud = make()
    cloud.admit(OURS, "oak", ensure(cloud, 1))
    zone.delete()

    for each in (cloud, make()):
        each.delete_server(OURS, "oak-node-1")
        each.clear(OURS, "oak")

    assert simulator.billable() == []
    assert not simulator.firewalls


def test_a_protected_name_stays_and_is_told(make: Make, simulator: Simulator, zone: BoundZone) -> None:
    cloud = make()
    cloud.admit(OURS, "oak", ensure(cloud, 1))
    zone.change_rrset_protection(zone.get_rrset("oak-node-1", "AAAA"), change=True)

    with pytest.raises(CloudError, match=r"oak-node-1.*protected.*Cloud Console"):
        cloud.delete_server(OURS, "oak-node-1")

    assert list(simulator.servers) == ["oak-node-1"]
