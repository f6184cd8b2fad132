"""Actions take time, fail and get stuck, and lock what they work on."""

import hcloud
import pytest
from hcloud import APIException
from hcloud.actions import ActionFailedException
from hcloud.images import Image
from hcloud.networks import NetworkSubnet

from tests.simulator import Simulator
from tests.simulator.clients import SSH, Order, client_of, id_of, settled


def test_the_actions_of_an_order_end_one_after_another(slow: Simulator) -> None:
    with slow.running():
        client = client_of(slow)
        kind = client.server_types.get_by_name("cx23")
        assert kind
        created = client.servers.create("oak-node-1", kind, Image(name="debian-13"))
        ids = [created.action.id, *(each.id for each in created.next_actions)]
        seen = []
        for _ in range(3):
            actions = client.request("GET", "/actions", params={"id": ids})["actions"]
            status = client.servers.get_by_id(id_of(created.server)).status
            seen.append(([each["status"] for each in actions], status))
            slow.advance(3)

    assert [each["command"] for each in actions] == ["create_server", "start_server"]
    assert seen == [
        (["running", "running"], "initializing"),
        (["success", "running"], "starting"),
        (["success", "success"], "running"),
    ]


def test_a_server_may_be_created_and_not_start(simulator: Simulator, order: Order) -> None:
    simulator.faults.action_error("start_server", "unknown_error")
    created = order()
    created.action.wait_until_finished()

    with pytest.raises(ActionFailedException, match="unknown_error"):
        created.next_actions[0].wait_until_finished()

    assert simulator.servers["oak-node-1"].status == "off"


def test_a_firewall_may_fail_to_apply(simulator: Simulator, client: hcloud.Client, order: Order) -> None:
    firewall = client.firewalls.create("oak", [SSH]).firewall
    simulator.faults.action_error("apply_firewall")
    created = order(firewalls=[firewall])
    created.next_actions[0].wait_until_finished()

    with pytest.raises(ActionFailedException):
        created.next_actions[1].wait_until_finished()

    server = client.servers.get_by_id(id_of(created.server))
    assert server.status == "running"
    assert server.public_net
    assert server.public_net.firewalls
    assert server.public_net.firewalls[0].status == "pending"


def test_an_action_may_be_stuck(simulator: Simulator, order: Order) -> None:
    simulator.faults.action_stuck("create_server", 300)
    created = order()

    created.action.reload()
    assert created.action.status == "running"
    simulator.advance(301)
    settled(created)


def test_a_server_is_locked_while_an_action_runs(slow: Simulator) -> None:
    with slow.running():
        client = client_of(slow)
        kind = client.server_types.get_by_name("cx23")
        assert kind
        server = client.servers.create("oak-node-1", kind, Image(name="debian-13")).server
        assert client.servers.get_by_id(id_of(server)).locked

        with pytest.raises(APIException) as failed:
            server.delete()

        assert failed.value.code == "locked"
        slow.advance(10)
        slow.faults.locked("oak-node-1", times=1)
        assert client.servers.get_by_id(id_of(server)).locked
        with pytest.raises(APIException, match="server is locked"):
            server.power_off()
        server.delete()


def test_a_network_may_fail_to_attach_to_one_server(
    simulator: Simulator, client: hcloud.Client, order: Order
) -> None:
    subnet = NetworkSubnet(type="cloud", network_zone="eu-central", ip_range="10.0.0.0/24")
    network = client.networks.create("inner", "10.0.0.0/16", subnets=[subnet])
    simulator.faults.action_error("attach_to_network", server="oak-node-2")
    settled(order("oak-node-1", networks=[network]))

    with pytest.raises(ActionFailedException):
        settled(order("oak-node-2", networks=[network]))

    assert simulator.servers["oak-node-2"].status == "running"
    assert simulator.servers["oak-node-2"].private_net == []
    assert len(simulator.networks["inner"].servers) == 1


def test_actions_are_listed_where_they_belong(client: hcloud.Client, order: Order) -> None:
    server = settled(order()).server
    order("oak-node-2")

    assert len(server.get_actions(sort=["finished:desc"])) == 2
    assert len(client.servers.actions.get_all(status=["success"])) == 4
