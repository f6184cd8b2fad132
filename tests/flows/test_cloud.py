"""Forests on the simulated project: settings, blocks, flows and provider as they are, nothing in between."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hcloud.images import Image
from hcloud.server_types import ServerType
from pydantic import SecretStr

from blocks import HetznerBlock, open_cloud
from flows.grow_check import grow_check
from flows.plant import plant
from flows.teardown import teardown
from morpheus import settings as config
from morpheus import site
from morpheus.cli.looking import examine, the_forest
from morpheus.cloud import Order
from morpheus.errors import (
    CloudError,
    ForestNotFoundError,
    InvalidInputError,
    MachineError,
    RefusedError,
)
from morpheus.forest import Status
from morpheus.nats.access import AccessFolder
from morpheus.wait import wait_until
from tests.flows.homes import Home, client, nothing_is_left, protect, shared
from tests.hetzner.project import simulated
from tests.servers.s3 import S3
from tests.simulator import Simulator

pytestmark = pytest.mark.long


# Planting


@pytest.mark.parametrize("nodes", [1, 3])
def test_a_forest_stands_behind_its_firewall_and_is_recorded_with_its_price(
    home: Home, simulator: Simulator, nodes: int
) -> None:
    planted = plant("oak", nodes=nodes)

    forest = home.forests["oak"]
    assert planted.forest.staying == forest.staying
    assert (forest.status, forest.provider, forest.location) == (Status.ACTIVE, "hetzner", "fsn1")
    assert forest.lease is None
    names = [f"oak-node-{k}" for k in range(1, nodes + 1)]
    assert [node.name for node in forest.staying] == names == sorted(simulator.servers)
    for node in forest.staying:
        server = simulator.servers[node.name]
        assert node.status == Status.ACTIVE
        assert node.ip == str(server.ipv6).replace("/64", "1")
        assert node.metadata["server_id"] == str(server.id)
        assert node.price.monthly > 0
        assert {*server.firewalls.values()} == {"applied"}
    (firewall,) = simulator.firewalls.values()
    (routes,) = [rule for rule in firewall.rules if rule.get("port") == "6222"]
    assert sorted(routes["source_ips"]) == sorted(f"{node.ip}/128" for node in forest.staying)
    assert sorted(simulator.billable()) == [f"server {name}" for name in names]


def test_planting_again_creates_nothing(home: Home, simulator: Simulator) -> None:
    first = plant("oak", nodes=3)
    made = simulator.requests["POST /servers"]

    second = plant("oak")

    assert second.forest.staying == first.forest.staying
    assert simulator.requests["POST /servers"] == made == 3
    assert len(simulator.firewalls) == len(simulator.placement_groups) == 1


def test_planting_again_replaces_a_server_that_was_lost(home: Home, simulator: Simulator) -> None:
    plant("oak", nodes=3)
    lost = client(simulator).servers.get_by_name("oak-node-2")
    assert lost
    lost.delete()

    plant("oak")

    forest = home.forests["oak"]
    assert forest.status == Status.ACTIVE
    assert [node.name for node in forest.staying] == sorted(simulator.servers)
    (firewall,) = simulator.firewalls.values()
    (routes,) = [rule for rule in firewall.rules if rule.get("port") == "6222"]
    assert sorted(routes["source_ips"]) == sorted(f"{node.ip}/128" for node in forest.staying)


def test_a_stored_block_is_a_cloud(house: Callable[[str], Home], simulator: Simulator) -> None:
    """The token is the block's alone."""
    home = house("home").settle(hetzner={"token": ""})
    HetznerBlock(token=SecretStr(simulator.token), locations=["nbg1"]).save("theirs", overwrite=True)

    plant("oak", nodes=1, cloud="hetzner-cloud/theirs")
    assert {each.location for each in simulator.servers.values()} == {"nbg1"}
    with pytest.raises(InvalidInputError, match="HETZNER_API_TOKEN"):
        grow_check()
    assert grow_check(cloud="hetzner-cloud/theirs") == {"oak": "nothing"}
    teardown("oak", cloud="hetzner-cloud/theirs")
    nothing_is_left(simulator)

    lost = Order("oak-node-1", "oak", home.registry_id, "another-run")
    open_cloud("hetzner-cloud/theirs").ensure_server(lost)
    assert teardown("oak", cloud="hetzner-cloud/theirs") == ("oak-node-1",)
    nothing_is_left(simulator)


def test_a_plant_that_finds_no_room_leaves_nothing(home: Home, simulator: Simulator) -> None:
    simulator.faults.unavailable()

    with pytest.raises(CloudError, match="found no place"):
        plant("oak", nodes=3)

    nothing_is_left(simulator)
    assert home.forests == {}


def test_a_plant_that_finds_a_name_taken_leaves_nothing_of_its_own(home: Home, simulator: Simulator) -> None:
    there = client(simulator).servers
    there.create("oak-node-2", ServerType(name="cx23"), Image(name="debian-13"))

    with pytest.raises(RefusedError, match="choose another name"):
        plant("oak", nodes=3)

    assert list(simulator.servers) == ["oak-node-2"]
    assert not simulator.firewalls
    assert not home.forests


def test_a_forest_whose_names_are_taken_can_be_torn_down(home: Home, simulator: Simulator) -> None:
    there = client(simulator).servers
    there.create("oak-node-2", ServerType(name="cx23"), Image(name="debian-13"))
    with pytest.raises(RefusedError, match="choose another name"):
        plant("oak", nodes=3, keep=True)
    assert sorted(simulator.servers) == ["oak-node-1", "oak-node-2", "oak-node-3"]

    teardown("oak")

    assert list(simulator.servers) == ["oak-node-2"]
    assert not simulator.firewalls
    assert not home.forests


def test_a_recorded_server_that_is_not_ours_any_more_is_not_forgotten(
    home: Home, simulator: Simulator
) -> None:
    """As when a registry was put back from another one's backup: the machine may still be the forest's."""
    plant("oak", nodes=1)
    server = client(simulator).servers.get_by_name("oak-node-1")
    assert server
    server.update(labels={**(server.labels or {}), "registry-id": "another"})

    with pytest.raises(RefusedError, match="not of this registry"):
        teardown("oak")

    assert list(home.forests) == ["oak"]
    assert list(simulator.servers) == ["oak-node-1"]


# Tearing down


def test_teardown_leaves_nothing(home: Home, simulator: Simulator) -> None:
    plant("oak", nodes=3)

    assert teardown("oak") == ("oak-node-1", "oak-node-2", "oak-node-3")

    nothing_is_left(simulator)
    assert home.forests == {}
    assert site.access_folder().find("oak") is None


def test_another_projects_token_forgets_nothing(
    home: Home, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There every machine seems to be gone, while it goes on and costs."""
    plant("oak", nodes=3)
    with simulated() as elsewhere:
        Home(home.folder, elsewhere, monkeypatch).settle()
        with pytest.raises(RefusedError, match=r"this project has nothing of it.* teardown oak --gone"):
            teardown("oak")
    home.settle()

    assert home.forests["oak"].status == Status.ACTIVE
    teardown("oak")
    nothing_is_left(simulator)


def test_nor_does_it_forget_machines_whose_addresses_nobody_recorded(
    home: Home, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator.faults.unavailable(times=1)
    with pytest.raises(CloudError, match="found no place"):
        plant("oak", nodes=3, keep=True)
    assert [node.ip for node in home.forests["oak"].nodes] == [None] * 3
    assert len(simulator.servers) == 2

    with simulated() as elsewhere:
        Home(home.folder, elsewhere, monkeypatch).settle()
        with pytest.raises(RefusedError, match=r"oak has 3 machine\(s\) by its record, .* nothing of it"):
            teardown("oak")

    home.settle()
    teardown("oak")
    nothing_is_left(simulator)


def test_what_is_gone_for_certain_can_be_forgotten(home: Home, simulator: Simulator) -> None:
    plant("oak", nodes=1)
    client(simulator).servers.get_all()[0].delete()
    wait_until("the end of it", lambda: simulator.servers, lambda there: not there, str, timeout=20)
    for each in client(simulator).firewalls.get_all():
        each.delete()
    for group in client(simulator).placement_groups.get_all():
        group.delete()

    with pytest.raises(RefusedError, match="nothing of it"):
        teardown("oak")
    teardown("oak", gone=True)

    assert home.forests == {}


def test_a_teardown_that_ended_before_the_record_went_is_finished_by_the_next(
    home: Home, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant("oak", nodes=3)
    access = site.access_folder

    def fails() -> AccessFolder:
        raise MachineError("on purpose")

    monkeypatch.setattr(site, "access_folder", fails)
    with pytest.raises(MachineError, match="on purpose"):
        teardown("oak")
    monkeypatch.setattr(site, "access_folder", access)
    nothing_is_left(simulator)
    assert [*home.forests] == ["oak"]

    teardown("oak")

    assert home.forests == {}


def test_a_protected_server_keeps_the_forest_recorded(home: Home, simulator: Simulator) -> None:
    plant("oak", nodes=3)
    protect(simulator, "oak-node-2")

    with pytest.raises(CloudError, match=r"oak-node-2 is protected.*run this again"):
        teardown("oak")

    assert simulator.billable() == ["server oak-node-2"]
    assert home.forests["oak"].status == Status.DELETING
    assert home.forests["oak"].lease is None
    protect(simulator, "oak-node-2", wanted=False)
    teardown("oak")
    nothing_is_left(simulator)
    assert home.forests == {}


def test_servers_that_no_record_knows_go_as_well(home: Home, simulator: Simulator) -> None:
    plant("oak", nodes=1)
    order = Order("oak-node-7", "oak", home.registry_id, "another-run")
    site.configured_cloud(config.load()).ensure_server(order)

    assert teardown("oak") == ("oak-node-1", "oak-node-7")

    nothing_is_left(simulator)


def test_servers_of_a_forest_that_no_record_knows_go_as_well(home: Home, simulator: Simulator) -> None:
    plant("elm", nodes=1)
    order = Order("oak-node-1", "oak", home.registry_id, "another-run")
    site.configured_cloud(config.load()).ensure_server(order)

    assert teardown("oak") == ("oak-node-1",)

    assert list(simulator.servers) == ["elm-node-1"]
    assert list(home.forests) == ["elm"]
    with pytest.raises(ForestNotFoundError, match=r"no forest oak\. The forests are: elm"):
        teardown("oak")


# Looking


def test_forests_are_measured_by_their_machines(home: Home, simulator: Simulator) -> None:
    plant("oak", nodes=3)
    assert grow_check() == {"oak": "nothing"}

    server = client(simulator).servers.get_by_name("oak-node-2")
    assert server
    server.power_off()

    assert grow_check("oak") == {"oak": "unhealthy"}
    wait_until(  # those that are left may have to elect a leader
        "the survivors to agree",
        lambda: [node.state.split()[0] for node in examine(the_forest("oak")).nodes],
        lambda states: states == ["current", "unreachable", "current"],
        str,
        timeout=30,
    )


def test_a_node_without_a_recorded_host_key_keeps_nobody_from_looking_at_the_others(home: Home) -> None:
    forest = plant("oak", nodes=3).forest
    leader = examine(the_forest("oak")).formation.leader  # of which the others are told
    lost = next(node for node in forest.nodes if node.name != leader)
    rest = {key: value for key, value in lost.metadata.items() if key != "host_key"}
    changed = replace(lost, metadata=rest, extra={})
    site.require_shared(config.load()).update(
        lambda document, _: document.with_forest(document.forests["oak"].with_nodes(changed))
    )

    health = examine(the_forest("oak"))

    assert not health.formation.formed
    states = {node.node.name: node.state for node in health.nodes}
    assert f"No host key of {lost.name} is recorded" in states.pop(lost.name)
    assert [*states.values()] == ["current", "current"]
    assert grow_check() == {"oak": "unhealthy"}


# Several users


def test_two_registries_share_a_project_without_touching_each_other(
    house: Callable[[str], Home], simulator: Simulator
) -> None:
    ours, theirs = house("ours"), house("theirs")
    ours.settle()
    plant("oak", nodes=3)
    theirs.settle()
    plant("elm", nodes=1)
    plant("yew", nodes=1)
    assert ours.enter().registry_id != theirs.enter().registry_id

    assert sorted(theirs.forests) == ["elm", "yew"]
    with pytest.raises(RefusedError, match="choose another name"):
        plant("oak", nodes=3)
    for foreign in ("oak", "ash"):
        with pytest.raises(ForestNotFoundError):
            teardown(foreign)
    teardown("elm")
    assert sorted(simulator.servers) == ["oak-node-1", "oak-node-2", "oak-node-3", "yew-node-1"]

    ours.enter()
    assert list(ours.forests) == ["oak"]
    assert grow_check() == {"oak": "nothing"}
    teardown("oak")
    assert list(simulator.servers) == ["yew-node-1"]
    assert len(simulator.firewalls) == len(simulator.placement_groups) == 1

    theirs.enter()
    teardown("yew")
    nothing_is_left(simulator)


def test_a_second_device_lists_looks_and_tears_down(
    house: Callable[[str], Home], simulator: Simulator, s3: S3
) -> None:
    """Without the registry's key, too; only what enters machines needs it."""
    registry = shared(s3, "second-device/registry.json")
    first = house("first").settle(registry=registry)
    plant("oak", nodes=3)
    recorded = first.forests["oak"]

    second = house("second").settle(registry=registry)
    assert not (second.folder / "data").exists()
    assert second.forests["oak"] == recorded
    assert [node.state for node in examine(the_forest(None)).nodes] == ["running"] * 3
    with pytest.raises(RefusedError, match=r"key for secrets .* is not on this device"):
        plant("oak")
    second.borrow_key(first)
    assert [node.state for node in examine(the_forest(None)).nodes] == ["current"] * 3
    plant("oak")
    assert len(simulator.servers) == 3
    house("third").settle(registry=registry)
    teardown("oak")

    nothing_is_left(simulator)
    assert first.enter().forests == {}
