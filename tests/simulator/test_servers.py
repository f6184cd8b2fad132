"""Servers and what comes with them: addresses, images, keys, groups, networks."""

import base64
import hashlib
import ipaddress
from datetime import UTC, datetime, timedelta

import hcloud
import pytest
from hcloud import APIException
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.networks import NetworkSubnet
from hcloud.servers import ServerCreatePublicNetwork

from tests.simulator import Simulator
from tests.simulator.clients import Order, public_key, settled


def test_addresses(client: hcloud.Client, order: Order) -> None:
    created = order()
    raw = client.request("GET", f"/servers/{created.server.id}")["server"]

    assert ipaddress.IPv6Network(raw["public_net"]["ipv6"]["ip"]).prefixlen == 64
    assert raw["public_net"]["ipv6"]["ip"].endswith("::/64")
    assert raw["public_net"]["ipv4"] is None
    assert "datacenter" not in raw
    assert raw["location"]["name"] == "fsn1"


def test_deprecated_types_are_listed_and_cannot_be_ordered(client: hcloud.Client, order: Order) -> None:
    kind = client.server_types.get_by_name("cx22")

    assert kind
    assert kind.locations
    ends = kind.locations[0].deprecation
    assert ends
    assert ends.unavailable_after
    assert ends.unavailable_after < datetime.now(UTC)
    with pytest.raises(APIException, match="deprecated"):
        order(kind="cx22")


def test_deprecations_are_announced(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    simulator.deprecate("cx23", days=30)

    kind = client.server_types.get_by_name("cx23")

    assert kind
    assert kind.locations
    assert kind.locations[0].deprecation
    assert kind.locations[0].available
    order()


def test_images_are_there_once_per_architecture(
    simulator: Simulator, client: hcloud.Client, order: Order
) -> None:
    images = client.images.get_all(name="debian-13")
    arm = client.images.get_by_name_and_architecture("debian-13", "arm")

    assert {each.architecture for each in images} == {"x86", "arm"}
    assert "deprecated" not in client.request("GET", "/images")["images"][0]
    assert arm
    with pytest.raises(APIException, match="architecture"):
        order(image=Image(id=arm.id))
    order("oak-node-2", "cax11")
    assert simulator.servers["oak-node-2"].image == arm.id


def test_keys_are_unique_by_fingerprint_and_by_name(client: hcloud.Client) -> None:
    key = client.ssh_keys.create("mine", public_key(1))

    raw = base64.b64decode(public_key(1).split()[1])
    assert key.fingerprint == ":".join(f"{each:02x}" for each in hashlib.md5(raw).digest())
    assert client.ssh_keys.get_by_fingerprint(key.fingerprint or "")
    for name, number in (("other", 1), ("mine", 2)):
        with pytest.raises(APIException) as failed:
            client.ssh_keys.create(name, public_key(number))
        assert failed.value.code == "uniqueness_error"


def test_a_server_without_a_key_has_a_password(client: hcloud.Client, order: Order) -> None:
    key = client.ssh_keys.create("mine", public_key(1))

    assert order("oak-node-1").root_password
    assert order("oak-node-2", ssh_keys=[key]).root_password is None


def test_groups_spread_ten_servers(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    group = client.placement_groups.create("oak", "spread").placement_group
    for number in range(10):
        order(f"oak-node-{number}", placement_group=group)

    with pytest.raises(APIException) as failed:
        order("oak-node-10", placement_group=group)

    assert failed.value.code == "placement_group_member_limit_reached"
    assert len({each.hypervisor for each in simulator.servers.values()}) == 10
    assert "oak-node-10" not in simulator.servers


def test_a_group_may_be_full_too_early(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    group = client.placement_groups.create("oak", "spread").placement_group
    simulator.faults.placement_full("oak", times=1)

    with pytest.raises(APIException, match="contains already 10 servers"):
        order(placement_group=group)


def test_protection_and_what_is_not_there(simulator: Simulator, order: Order, client: hcloud.Client) -> None:
    server = settled(order()).server
    server.change_protection(delete=True, rebuild=True).wait_until_finished()
    with pytest.raises(APIException) as failed:
        server.delete()
    assert failed.value.code == "protected"

    server.change_protection(delete=False, rebuild=False).wait_until_finished()
    server.delete().wait_until_finished()

    for ask in (server.delete, server.reload, lambda: client.actions.get_by_id(99)):
        with pytest.raises(APIException) as failed:
            ask()
        assert failed.value.code == "not_found"
    assert simulator.billable() == []


def test_primary_ips_stay_unless_they_go_with_their_server(
    simulator: Simulator, client: hcloud.Client, order: Order
) -> None:
    mine = client.primary_ips.create("ipv4", "mine", Location(name="fsn1"), auto_delete=False).primary_ip
    net = ServerCreatePublicNetwork(ipv4=mine, enable_ipv4=True, enable_ipv6=True)
    server = settled(order(public_net=net)).server
    assert simulator.servers["oak-node-1"].ipv4 == mine.ip
    with pytest.raises(APIException) as failed:
        mine.delete()
    assert failed.value.code == "must_be_unassigned"

    server.delete().wait_until_finished()

    assert [each.name for each in client.primary_ips.get_all()] == ["mine"]
    mine.reload()
    assert (mine.assignee_id, mine.assignee_type) == (None, "unassigned")
    assert simulator.billable() == ["primary_ip mine"]
    mine.delete()
    assert simulator.billable() == []


def test_power_rebuild_and_networks(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    subnet = NetworkSubnet(type="cloud", network_zone="eu-central", ip_range="10.0.0.0/24")
    network = client.networks.create("inner", "10.0.0.0/16", subnets=[subnet])
    server = settled(order()).server
    state = simulator.servers["oak-node-1"]
    for change, status in (
        (server.shutdown, "off"),
        (server.power_on, "running"),
        (server.reboot, "running"),
        (server.reset, "running"),
        (server.power_off, "off"),
    ):
        change().wait_until_finished()
        assert state.status == status
    server.attach_to_network(network).wait_until_finished()
    server.rebuild(Image(name="ubuntu-24.04")).action.wait_until_finished()
    server.reload()

    assert server.private_net
    assert server.private_net[0].ip == "10.0.0.2"
    assert server.image
    assert server.image.name == "ubuntu-24.04"
    with pytest.raises(APIException, match="resource_in_use"):
        network.delete()
    server.detach_from_network(network).wait_until_finished()
    network.delete()


def test_metrics_are_text_and_know_no_memory(
    simulator: Simulator, client: hcloud.Client, order: Order
) -> None:
    server = settled(order()).server
    begin = simulator.clock()
    simulator.advance(600)

    metrics = server.get_metrics(
        ["cpu", "disk", "network"], begin, begin + timedelta(seconds=600), step=10
    ).metrics

    assert not any("memory" in name for name in metrics.time_series)
    values = metrics.time_series["cpu"]["values"]
    assert values[0][1] == "NaN"
    assert all(isinstance(text, str) for _, text in values)
    assert len(values) < 54
    assert values[-1][0] <= (simulator.clock() - timedelta(seconds=60)).timestamp()
