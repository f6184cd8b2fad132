"""Firewalls: by server, by label a few seconds late, in use."""

import hcloud
import pytest
from hcloud import APIException
from hcloud.firewalls import FirewallResource, FirewallResourceLabelSelector, FirewallRule
from hcloud.images import Image

from tests.simulator import Simulator
from tests.simulator.clients import SSH, Order, client_of, settled


def test_labels_bring_firewalls_a_few_seconds_late(slow: Simulator) -> None:
    with slow.running():
        client = client_of(slow)
        chosen = FirewallResource(
            "label_selector", label_selector=FirewallResourceLabelSelector(selector="forest=oak")
        )
        client.firewalls.create("oak", [SSH], resources=[chosen])
        kind = client.server_types.get_by_name("cx23")
        assert kind
        client.servers.create("oak-node-1", kind, Image(name="debian-13"), labels={"forest": "oak"})
        slow.advance(1.9)
        early = dict(slow.servers["oak-node-1"].firewalls)
        slow.advance(3.2)

        assert early == {}
        assert list(slow.servers["oak-node-1"].firewalls.values()) == ["applied"]


def test_a_firewall_in_use_stays(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    firewall = client.firewalls.create("oak", [SSH]).firewall
    server = settled(order(firewalls=[firewall])).server
    for action in firewall.set_rules([SSH, SSH]):
        action.wait_until_finished()
    assert len(simulator.firewalls["oak"].rules) == 2
    with pytest.raises(APIException, match="still in use") as failed:
        firewall.delete()
    assert failed.value.code == "resource_in_use"
    server.delete().wait_until_finished()
    simulator.faults.zombie_firewall("oak", times=1)

    with pytest.raises(APIException, match="still in use"):
        firewall.delete()

    firewall.delete()
    assert simulator.firewalls == {}


def test_firewalls_are_applied_and_removed(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    firewall = client.firewalls.create("oak", [SSH]).firewall
    resource = FirewallResource("server", server=settled(order()).server)

    for change in (firewall.apply_to_resources, firewall.remove_from_resources):
        for action in change([resource]):
            action.wait_until_finished()

    with pytest.raises(APIException) as failed:
        firewall.remove_from_resources([resource])
    assert failed.value.code == "firewall_resource_not_found"
    assert simulator.servers["oak-node-1"].firewalls == {}


def test_a_selector_in_use_is_removed_first(
    client: hcloud.Client, simulator: Simulator, order: Order
) -> None:
    chosen = FirewallResource(
        "label_selector", label_selector=FirewallResourceLabelSelector(selector="forest=oak")
    )
    firewall = client.firewalls.create("oak", [SSH], resources=[chosen]).firewall
    server = settled(order(labels={"forest": "oak"})).server
    with pytest.raises(APIException) as failed:
        firewall.remove_from_resources([FirewallResource("server", server=server)])
    assert failed.value.code == "firewall_managed_by_label_selector"
    with pytest.raises(APIException, match="still in use"):
        firewall.delete()

    firewall.remove_from_resources([chosen])

    assert firewall.delete()
    assert simulator.servers["oak-node-1"].firewalls == {}


@pytest.mark.parametrize(
    "rule",
    [
        FirewallRule("in", "tcp", source_ips=["::/0"]),
        FirewallRule("in", "icmp", source_ips=["::/0"], port="22"),
        FirewallRule("in", "tcp", source_ips=["::/0"], port="90000"),
        FirewallRule("in", "tcp", source_ips=["house"], port="22"),
        FirewallRule("out", "tcp", source_ips=["::/0"], port="22"),
    ],
)
def test_rules_that_say_nothing(client: hcloud.Client, rule: FirewallRule) -> None:
    with pytest.raises(APIException) as failed:
        client.firewalls.create("oak", [rule])

    assert failed.value.code == "invalid_input"
