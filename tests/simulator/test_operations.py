"""Operations that no trap is about: each is asked once, and its answer is what the schema says."""

import hcloud
import pytest
from hcloud import APIException
from hcloud.locations import Location
from hcloud.networks import NetworkRoute, NetworkSubnet
from hcloud.server_types import ServerType
from hcloud.storage_box_types import StorageBoxType
from hcloud.zones import ZoneRecord

from tests.simulator import Simulator
from tests.simulator.clients import SSH, Order, id_of, public_key, settled


def test_a_server_that_is_off_can_be_changed(
    simulator: Simulator, client: hcloud.Client, order: Order
) -> None:
    server = settled(order()).server
    group = client.placement_groups.create("oak", "spread").placement_group
    with pytest.raises(APIException) as failed:
        server.add_to_placement_group(group)
    assert failed.value.code == "server_not_stopped"
    assert server.reset_password().root_password
    server.power_off().wait_until_finished()

    server.change_type(ServerType(name="cx33"), upgrade_disk=False).wait_until_finished()
    server.add_to_placement_group(group).wait_until_finished()
    server.change_dns_ptr("2001:db8::1", "oak.example.com").wait_until_finished()
    server.update(name="elm-node-1")

    state = simulator.servers["elm-node-1"]
    assert (state.server_type, state.placement_group) == ("cx33", group.id)
    assert simulator.billable() == ["server elm-node-1"]
    server.reload()
    assert server.public_net
    assert server.public_net.ipv6
    assert server.placement_group
    server.remove_from_placement_group().wait_until_finished()
    group.update(labels={"a": "b"})
    assert client.placement_groups.get_by_id(id_of(group)).labels == {"a": "b"}
    assert group.delete()


def test_addresses_move(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    server = settled(order()).server
    address = client.primary_ips.create("ipv4", "mine", Location(name="fsn1")).primary_ip
    with pytest.raises(APIException) as failed:
        address.assign(id_of(server), "server")
    assert failed.value.code == "server_not_stopped"
    server.power_off().wait_until_finished()

    address.assign(id_of(server), "server").wait_until_finished()
    assert simulator.servers["oak-node-1"].ipv4 == address.ip
    net = client.servers.get_by_id(id_of(server)).public_net
    assert net
    assert net.ipv4
    assert net.ipv4.ip == address.ip
    address.unassign().wait_until_finished()
    address.change_dns_ptr(net.ipv4.ip, "oak.example.com").wait_until_finished()
    address.change_protection(delete=True).wait_until_finished()
    address.update(name="ours", auto_delete=True)

    with pytest.raises(APIException) as failed:
        address.delete()
    assert failed.value.code == "protected"
    assert client.primary_ips.get_by_id(id_of(address)).dns_ptr
    assert simulator.billable() == ["server oak-node-1", "primary_ip ours"]


def test_networks_are_changed(simulator: Simulator, client: hcloud.Client) -> None:
    network = client.networks.create("inner", "10.0.0.0/16")
    subnet = NetworkSubnet(type="cloud", network_zone="eu-central", ip_range="10.0.1.0/24")
    route = NetworkRoute(destination="10.1.0.0/24", gateway="10.0.1.2")

    network.add_subnet(subnet).wait_until_finished()
    with pytest.raises(APIException) as failed:
        network.add_subnet(subnet)
    assert failed.value.code == "networks_overlap"
    network.add_route(route).wait_until_finished()
    network.change_protection(delete=True).wait_until_finished()
    network.update(labels={"a": "b"})
    assert len(client.networks.get_by_id(id_of(network)).subnets or []) == 1
    network.delete_route(route).wait_until_finished()
    network.delete_subnet(subnet).wait_until_finished()

    state = simulator.networks["inner"]
    assert (state.subnets, state.routes, state.protection) == ([], [], {"delete": True})
    assert len(client.networks.get_all()) == 1


def test_keys_and_firewalls_are_renamed(client: hcloud.Client) -> None:
    key = client.ssh_keys.create("mine", public_key(1))
    firewall = client.firewalls.create("oak", [SSH]).firewall

    key.update(name="ours", labels={"a": "b"})
    firewall.update(name="elm")

    assert client.ssh_keys.get_by_id(id_of(key)).labels == {"a": "b"}
    assert client.firewalls.get_by_name("elm")
    assert client.firewalls.get_by_id(id_of(firewall)).rules
    assert len(firewall.get_actions()) == 0
    assert key.delete()


def test_what_can_be_ordered_is_there_by_id(client: hcloud.Client) -> None:
    kind = client.server_types.get_all()[0]
    image = client.images.get_all()[0]
    box = client.storage_box_types.get_all()[0]

    assert client.server_types.get_by_id(id_of(kind)).name == kind.name
    assert client.images.get_by_id(id_of(image)).name == image.name
    assert client.locations.get_by_id(1).name == "fsn1"
    assert client.storage_box_types.get_by_id(id_of(box)).name == box.name == "bx11"
    with pytest.raises(APIException):
        client.server_types.get_by_id(1)


def test_boxes_are_changed(simulator: Simulator, client: hcloud.Client) -> None:
    box = client.storage_boxes.create(
        name="registry",
        password="Correct-horse-7",
        location=Location(name="fsn1"),
        storage_box_type=StorageBoxType(name="bx11"),
    ).storage_box
    box = client.storage_boxes.get_by_id(id_of(box))
    snapshot = box.create_snapshot(description="first").snapshot
    account = box.create_subaccount(home_directory="forests", password="Correct-horse-7").subaccount

    box.update(name="other", labels={"a": "b"})
    box.change_type(StorageBoxType(name="bx21")).wait_until_finished()
    box.disable_snapshot_plan().wait_until_finished()
    snapshot.update(description="second")
    account.update(description="for forests")

    assert box.get_folders().folders == ["forests"]
    assert box.get_snapshot_by_id(id_of(snapshot)).description == "second"
    assert box.get_subaccount_by_id(id_of(account)).description == "for forests"
    snapshot.delete().action.wait_until_finished()
    assert box.get_snapshot_all() == []
    assert [each.box_type for each in simulator.storage_boxes.values()] == ["bx21"]
    assert client.storage_boxes.get_by_name("other")
    assert len(box.get_actions()) >= 5
    assert simulator.billable() == ["storage_box other"]


def test_zones_are_changed(simulator: Simulator, client: hcloud.Client) -> None:
    zone = client.zones.create(name="example.com", mode="primary", ttl=600).zone
    rrset = zone.create_rrset(name="oak", type="A", records=[ZoneRecord(value="192.0.2.1")]).rrset

    zone.update(labels={"a": "b"})
    zone.change_ttl(900).wait_until_finished()
    zone.update_rrset(rrset, labels={"c": "d"})
    zone.change_rrset_protection(rrset, change=True).wait_until_finished()
    with pytest.raises(APIException) as failed:
        zone.delete_rrset(rrset)
    assert failed.value.code == "protected"
    zone.change_protection(delete=True).wait_until_finished()

    found = client.zones.get("example.com")
    assert (found.ttl, found.labels) == (900, {"a": "b"})
    assert [each.labels for each in zone.get_rrset_all(type=["A"])] == [{"c": "d"}]
    assert len(client.zones.get_all()) == 1
    zone.change_protection(delete=False).wait_until_finished()
    zone.delete().action.wait_until_finished()
    assert simulator.zones == {}


def test_a_single_action_is_there_under_its_resource(client: hcloud.Client, order: Order) -> None:
    created = settled(order())

    path = f"/servers/{created.server.id}/actions/{created.action.id}"
    assert client.request("GET", path)["action"]["command"] == "create_server"
    assert client.servers.actions.get_by_id(created.action.id).status == "success"
