"""A person renames servers in the Cloud Console; which node one is stands in its labels."""

import logging

import pytest
from hcloud.images import Image
from hcloud.server_types import ServerType

from morpheus.cloud import Server
from morpheus.cloud.hetzner import HetznerCloud
from morpheus.errors import CloudError, RefusedError
from tests.hetzner.device import put
from tests.hetzner.project import OURS, ensure, order
from tests.simulator import Simulator
from tests.simulator.clients import client_of


@pytest.fixture
def renamed(cloud: HetznerCloud, simulator: Simulator) -> Server:
    """What was made as oak-node-1, and is web now."""
    made = cloud.ensure_server(order(1))
    rename(simulator, "oak-node-1", "web")
    return made


def rename(simulator: Simulator, old: str, new: str) -> None:
    server = client_of(simulator).servers.get_by_name(old)
    assert server
    server.update(name=new)


def test_it_is_listed_and_adopted_as_the_node_that_it_is(
    cloud: HetznerCloud, simulator: Simulator, renamed: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "morpheus.cloud")

    assert list(cloud.list_servers(OURS, "oak")) == [renamed]
    assert cloud.ensure_server(order(1)) == renamed

    assert simulator.billable() == ["server web"]
    assert 'oak-node-1 ("web" in the Cloud Console)' in caplog.text


def test_it_is_switched_on(cloud: HetznerCloud, simulator: Simulator, renamed: Server) -> None:
    simulator.servers["web"].status = "off"

    cloud.ensure_server(order(1))

    assert simulator.servers["web"].status == "running"


def test_it_is_told_by_both_names_and_deleted(
    cloud: HetznerCloud, simulator: Simulator, renamed: Server
) -> None:
    told = cloud.holdings(OURS, "oak")[0]

    cloud.delete_server(OURS, "oak-node-1")

    assert told.startswith('server oak-node-1 ("web" in the Cloud Console) (cx23 in fsn1')
    assert simulator.billable() == []


def test_it_is_named_when_it_is_protected(cloud: HetznerCloud, simulator: Simulator, renamed: Server) -> None:
    simulator.servers["web"].protection["delete"] = True

    with pytest.raises(CloudError, match=r'"web" in the Cloud Console\) is protected'):
        cloud.delete_server(OURS, "oak-node-1")


def test_one_made_since_is_the_node_and_both_go(
    cloud: HetznerCloud, simulator: Simulator, renamed: Server
) -> None:
    """An earlier version made a second one."""
    put(simulator, OURS, ["oak-node-1"])
    (firewall,) = simulator.firewalls.values()
    simulator.servers["oak-node-1"].firewalls = {firewall.id: "applied"}

    listed, adopted = cloud.list_servers(OURS, "oak"), cloud.ensure_server(order(1))

    assert [each.name for each in listed] == ["oak-node-1"] * 2
    assert listed[-1] == adopted != renamed
    cloud.delete_server(OURS, "oak-node-1")
    assert not simulator.servers


def test_somebody_elses_of_that_name_stays(
    cloud: HetznerCloud, simulator: Simulator, renamed: Server
) -> None:
    other = client_of(simulator).servers
    other.create("oak-node-1", ServerType(name="cx23"), Image(name="debian-13"))

    cloud.delete_server(OURS, "oak-node-1")

    assert list(simulator.servers) == ["oak-node-1"]


def test_one_that_took_another_nodes_name_is_not_that_node(cloud: HetznerCloud, simulator: Simulator) -> None:
    ensure(cloud, 1)
    rename(simulator, "oak-node-1", "oak-node-2")

    with pytest.raises(RefusedError, match="oak-node-2 is taken by the server of oak-node-1"):
        cloud.ensure_server(order(2))
    cloud.delete_server(OURS, "oak-node-2")

    assert list(simulator.servers) == ["oak-node-2"]
