"""A plant on machines elsewhere that ends at any point, and what stands afterwards."""

from collections.abc import Mapping
from typing import Any

import pytest

from flows.plant import plant
from morpheus.errors import NotReadyError, RefusedError
from morpheus.forest import Status
from morpheus.machine import places
from tests.flows.hills import Effects
from tests.flows.homes import Home, nothing_is_left
from tests.flows.valleys import Valley
from tests.flows.valleys.plots import SILENT
from tests.flows.watched import watch
from tests.simulator import Simulator

pytestmark = pytest.mark.long

BROKEN = RefusedError("broken on purpose")  # final, and no reason to replace a machine
NOTES = ("written", "changed", "started", "deleted", "reach")


@pytest.fixture
def effects(valley: Valley, monkeypatch: pytest.MonkeyPatch) -> Effects:
    return watch(valley, monkeypatch)


def acts(effects: Effects) -> list[str]:
    """What was about to happen, in order; what was only noted is left out."""
    return [each for each in effects.seen if not each.startswith(NOTES)]


def end(home: Home, simulator: Simulator, valley: Valley, name: str) -> Mapping[str, Any]:
    """All that there is of the forest, without what differs by chance."""
    forest = home.forests[name]
    servers = [each for each in simulator.servers.values() if each.labels["forest-id"] == name]
    plots = {node.name: valley[node.name] for node in forest.nodes}
    ours = [each for each in simulator.firewalls.values() if each.labels["forest-id"] == name]
    return {
        "status": (forest.status, forest.lease),
        "nodes": [(node.label, node.status, sorted(node.metadata)) for node in forest.nodes],
        "servers": [each.name.removeprefix(name) for each in servers],
        "firewalls": [sorted(each.servers) == sorted(one.id for one in servers) for each in ours],
        "keys": [node.metadata["host_key"] == plots[node.name].shown for node in forest.nodes],
        "born keys": [each.birth_key.exists() for each in plots.values()],
        "files": [sorted(each.files("/etc")) + sorted(each.files("/opt")) for each in plots.values()],
        "runs": [bool(pid) for pid in valley.pids(name).values()],
        "secrets": [each.stem == name for each in (home.folder / "data/secrets").glob(f"{name}*.json")],
    }


@pytest.mark.timeout(600)
def test_a_plant_that_ends_before_any_effect_is_completed_by_the_next(
    home: Home, simulator: Simulator, valley: Valley, effects: Effects
) -> None:
    plant("elm", nodes=1)  # the registry is founded, its key made
    effects.seen.clear()
    plant("fir0", nodes=1)
    whole, steps = end(home, simulator, valley, "fir0"), acts(effects)
    assert {each.split()[0] for each in steps} == {
        *("write", "prepare", "create", "admit", "enter", "make-key", "take-key", "retire-key"),
        *("put", "start"),
    }
    assert whole["born keys"] == [False]
    assert whole["runs"] == whole["keys"] == whole["firewalls"] == whole["secrets"] == [True]
    assert places.CERTIFICATE in whole["files"][0]

    for k in range(len(steps) - 1):  # the last one gives the lease back, when all is done
        name = f"fir{k + 1}"
        with effects.failing("*", BROKEN, after=k), pytest.raises(RefusedError, match="on purpose"):
            plant(name, nodes=1, keep=True)
        plant(name, nodes=1)
        assert end(home, simulator, valley, name) == whole, (k, steps[k])
        valley.clear(name)  # many of them would need much memory

    assert len(simulator.servers) == len(steps) + 1


@pytest.mark.parametrize(
    "pattern",
    [
        "write secrets/oak",
        "prepare firewall",
        "create oak-node-1",
        "enter oak-node-1",
        "take-key oak-node-1",
        "retire-key oak-node-1",
        "put oak-node-1 nats-server",
        "put oak-node-1 cluster.conf",
        "start oak-node-1 nats",
    ],
)
def test_a_plant_that_fails_leaves_nothing(
    home: Home, simulator: Simulator, valley: Valley, effects: Effects, pattern: str
) -> None:
    with effects.failing(pattern, BROKEN), pytest.raises(RefusedError, match="on purpose"):
        plant("oak", nodes=1)

    nothing_is_left(simulator)
    assert home.forests == {}
    assert valley.pids("oak") == {}
    assert list((home.folder / "data/secrets").glob("oak*")) == []


@pytest.mark.parametrize(
    "pattern", ["enter *", "take-key *", "put * node.crt", "start *", "delete oak-node-2"]
)
def test_a_heal_that_fails_leaves_the_survivors_and_can_be_finished(
    home: Home, simulator: Simulator, valley: Valley, effects: Effects, pattern: str
) -> None:
    plant("oak", nodes=3)
    before = valley.pids("oak")
    survivors = {name: before[name] for name in ("oak-node-1", "oak-node-3")}
    valley["oak-node-2"].lose_store()

    with effects.failing(pattern, BROKEN), pytest.raises(RefusedError, match="on purpose"):
        plant("oak")
    assert survivors.items() <= valley.pids("oak").items()
    assert home.forests["oak"].status == Status.ACTIVE
    healed = plant("oak")

    assert len(healed.forest.staying) == 3
    assert healed.forest.nodes == healed.forest.staying
    assert survivors.items() <= valley.pids("oak").items()
    assert sorted(simulator.servers) == [node.name for node in healed.forest.nodes]


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("stopped", ["delete", "create", "enter"])
def test_a_replacement_that_fails_is_finished_by_the_next_plant(
    home: Home, valley: Valley, effects: Effects, nodes: int, stopped: str
) -> None:
    """No server of the forest was ever started."""
    after = 0 if stopped == "delete" else nodes
    with (
        valley.fated(SILENT, "oak-node-1"),
        effects.failing(f"{stopped} *", BROKEN, after=after),
        pytest.raises(RefusedError, match="on purpose"),
    ):
        plant("oak", nodes=nodes, keep=True)
    planted = plant("oak")

    names = [f"oak-node-{k}" for k in range(2, nodes + 2)]
    assert [node.name for node in planted.forest.nodes] == names
    assert list(valley.pids("oak")) == names  # and no other machine is there
    assert all(valley.pids("oak").values())


def test_a_silent_machine_of_a_plant_that_was_killed_is_replaced_by_the_next(
    home: Home, valley: Valley, effects: Effects
) -> None:
    """Also where the others hold data: it still shows the host key of its birth, so nothing began on it."""
    plant("oak", nodes=3)
    valley["oak-node-2"].lose_store()
    with (
        valley.fated(SILENT, "oak-node-4"),
        effects.failing("enter oak-node-4", BROKEN),
        pytest.raises(RefusedError, match="on purpose"),
    ):
        plant("oak", keep=True)

    healed = plant("oak")

    assert [node.name for node in healed.forest.nodes] == ["oak-node-1", "oak-node-3", "oak-node-5"]
    assert list(valley.pids("oak")) == ["oak-node-1", "oak-node-3", "oak-node-5"]


def test_a_machine_that_was_equipped_is_never_taken_for_empty(
    home: Home, simulator: Simulator, valley: Valley, effects: Effects
) -> None:
    """Its forest was not ready yet, but its server may have started: a person has to look."""
    with effects.failing("start oak-node-3 nats", BROKEN), pytest.raises(RefusedError, match="on purpose"):
        plant("oak", nodes=3, keep=True)
    valley["oak-node-2"].describe("oak-node-2", SILENT, valley["oak-node-2"].authorized)
    names = sorted(simulator.servers)

    with pytest.raises(NotReadyError, match="oak-node-2 to let us in"):
        plant("oak")

    assert sorted(simulator.servers) == names == [node.name for node in home.forests["oak"].nodes]


def test_nobody_is_stopped_while_nodes_are_missing(home: Home, valley: Valley, effects: Effects) -> None:
    """What a server reads at its start alone has changed, so the survivors are to be started anew."""
    plant("oak", nodes=3)
    before = valley.pids("oak")
    valley["oak-node-2"].lose_store()
    home.settle(firewall={"monitoring": ["192.0.2.0/24"]})
    effects.seen.clear()

    plant("oak")

    came = effects.seen.index("started oak-node-4 nats")
    for name in ("oak-node-1", "oak-node-3"):
        assert effects.seen.index(f"stop {name} nats") > came
        assert valley.pids("oak")[name] != before[name]
