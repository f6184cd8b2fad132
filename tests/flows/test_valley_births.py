"""Machines that do not get ready, that change, and that go off: what a plant does about each."""

import pytest

from flows.plant import plant
from morpheus.errors import CloudError, MachineError, MorpheusError, NotReadyError, RefusedError
from morpheus.forest import Status
from tests.flows.homes import Home, client, nothing_is_left
from tests.flows.valleys import Valley
from tests.flows.valleys.plots import SILENT, STILLBORN
from tests.simulator import Simulator

pytestmark = pytest.mark.long


def changes(simulator: Simulator) -> int:
    """How many requests were no mere looks."""
    return sum(times for what, times in simulator.requests.items() if not what.startswith("GET"))


@pytest.mark.parametrize("fate", [SILENT, STILLBORN])
def test_a_node_that_does_not_get_ready_is_replaced_by_a_fresh_one(
    home: Home, simulator: Simulator, valley: Valley, fate: str
) -> None:
    with valley.fated(fate, "oak-node-2"):
        planted = plant("oak", nodes=3)

    names = ["oak-node-1", "oak-node-3", "oak-node-4"]
    assert [node.name for node in planted.forest.nodes] == names == sorted(simulator.servers)
    assert home.forests["oak"].status == Status.ACTIVE
    assert sorted(simulator.billable()) == [f"server {name}" for name in names]
    (firewall,) = simulator.firewalls.values()
    (routes,) = [rule for rule in firewall.rules if rule.get("port") == "6222"]
    assert sorted(routes["source_ips"]) == sorted(f"{node.ip}/128" for node in planted.forest.staying)
    assert list(valley.pids("oak")) == names
    assert all(valley.pids("oak").values())


@pytest.mark.parametrize(("fate", "error"), [(SILENT, NotReadyError), (STILLBORN, MachineError)])
def test_when_the_fresh_one_does_not_either_the_plant_fails_and_leaves_nothing(
    home: Home, simulator: Simulator, valley: Valley, fate: str, error: type[MorpheusError]
) -> None:
    with (
        valley.fated(fate, "oak-node-[24]"),
        pytest.raises(error, match="oak-node-4"),
    ):
        plant("oak", nodes=3)

    assert simulator.requests["POST /servers"] == 4
    nothing_is_left(simulator)
    assert home.forests == {}
    assert list((home.folder / "data" / "secrets").glob("oak*")) == []
    assert valley.pids("oak") == {}


def test_a_machine_of_an_earlier_run_that_stays_silent_is_not_replaced(
    home: Home, simulator: Simulator, valley: Valley
) -> None:
    """It may hold data: a person has to look."""
    plant("oak", nodes=3)
    before, made = home.forests["oak"], changes(simulator)
    valley["oak-node-2"].describe("oak-node-2", SILENT, valley["oak-node-2"].authorized)

    with pytest.raises(NotReadyError, match="oak-node-2 to let us in"):
        plant("oak")

    assert home.forests["oak"].nodes == before.nodes
    assert sorted(simulator.servers) == ["oak-node-1", "oak-node-2", "oak-node-3"]
    assert changes(simulator) == made


def test_a_machine_that_somebody_reinstalled_stops_everything_and_is_not_touched(
    home: Home, simulator: Simulator, valley: Valley
) -> None:
    plant("oak", nodes=3)
    before, pids = home.forests["oak"], valley.pids("oak")
    server = client(simulator).servers.get_by_name("oak-node-2")
    assert server
    assert server.image
    server.rebuild(server.image)
    made, disk = changes(simulator), valley["oak-node-2"].files()

    with pytest.raises(RefusedError, match="shows another host key than its own") as refused:
        plant("oak")

    assert refused.value.exit_code == 5
    assert "the machine was rebuilt" in str(refused.value)
    assert home.forests["oak"].nodes == before.nodes
    assert changes(simulator) == made
    assert valley["oak-node-2"].files() == disk
    assert valley.pids("oak") == pids | {"oak-node-2": None}


def test_a_server_that_was_switched_off_is_switched_on_and_goes_on_as_it_was(
    home: Home, simulator: Simulator, valley: Valley
) -> None:
    plant("oak", nodes=3)
    before = home.forests["oak"]
    for name in ("oak-node-1", "oak-node-2", "oak-node-3"):
        server = client(simulator).servers.get_by_name(name)
        assert server
        server.power_off()
    assert not any(valley.pids("oak").values())

    plant("oak")

    assert home.forests["oak"].nodes == before.nodes
    assert simulator.requests["POST /servers"] == 3
    assert all(valley.pids("oak").values())


def open_to_ssh(simulator: Simulator) -> set[str]:
    """The ports to which the only firewall lets anybody in."""
    (firewall,) = simulator.firewalls.values()
    anybody = (rule for rule in firewall.rules if rule["protocol"] == "tcp" and "::/0" in rule["source_ips"])
    return {rule["port"] for rule in anybody}


def test_machines_keep_the_port_of_ssh_that_they_were_born_with(
    home: Home, simulator: Simulator, valley: Valley
) -> None:
    home.settle(provisioning={"ssh_port": 2222})
    plant("oak", nodes=3)
    assert open_to_ssh(simulator) == {"2222"}
    home.settle()
    valley["oak-node-2"].lose_store()

    plant("oak")

    ports = {node.label: node.ssh_port for node in home.forests["oak"].nodes}
    assert ports == {"node-1": 2222, "node-3": 2222, "node-4": 22}
    assert open_to_ssh(simulator) == {"22", "2222"}
    born = {name: "Port 2222" in server.user_data for name, server in simulator.servers.items()}
    assert born == {"oak-node-1": True, "oak-node-3": True, "oak-node-4": False}


def test_a_port_of_ssh_that_was_recorded_before_the_machine_is_the_one_it_is_born_with(
    home: Home, simulator: Simulator
) -> None:
    home.settle(provisioning={"ssh_port": 2222})
    simulator.faults.unavailable()
    with pytest.raises(CloudError, match="no place"):
        plant("oak", nodes=1, keep=True)
    simulator.faults.clear()
    home.settle()

    plant("oak")

    assert home.forests["oak"].node("oak-node-1").ssh_port == 2222
    assert "Port 2222" in simulator.servers["oak-node-1"].user_data
    assert open_to_ssh(simulator) == {"2222"}


def test_a_machine_that_lost_its_store_is_replaced(home: Home, simulator: Simulator, valley: Valley) -> None:
    plant("oak", nodes=3)
    valley["oak-node-2"].lose_store()

    healed = plant("oak")

    assert [node.name for node in healed.forest.nodes] == ["oak-node-1", "oak-node-3", "oak-node-4"]
    assert sorted(simulator.servers) == sorted(valley.pids("oak"))
