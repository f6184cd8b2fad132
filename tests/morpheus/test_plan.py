"""Plans in a model of the world: stopped after every step and made again, they end in the same place."""

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from morpheus.cloud import Server
from morpheus.errors import InvalidInputError, RefusedError
from morpheus.forest import Forest, Node, Status
from morpheus.machine import StoreState
from morpheus.plan import (
    Sight,
    Step,
    Verb,
    Wanted,
    activated,
    addressed,
    made_by,
    plan_plant,
    plan_teardown,
    replaced,
    reserve,
    retired,
    subjects,
    torn,
    undone,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WRITTEN_TOGETHER = (Verb.RETIRE, Verb.RESERVE)
Act = tuple[Step, ...]


@dataclass
class Machine:
    """A server of the model: what is in its store, and whether NATS runs."""

    store: StoreState = StoreState.FRESH
    running: bool = False


@dataclass
class World:
    """What is recorded, what exists, and whom the cluster counts. It objects to what would do harm."""

    forest: Forest | None
    machines: dict[str, Machine] = field(default_factory=dict)
    peers: set[str] = field(default_factory=set)
    started: set[str] = field(default_factory=set)

    def seen(self) -> dict[str, Sight]:
        return {name: Sight(each.store, running=each.running) for name, each in self.machines.items()}

    def plan(self) -> list[Act]:
        """The steps to a planted forest, those that are one write taken together."""
        assert self.forest
        return acts(plan_plant(self.forest, self.seen()))

    def lose(self, *names: str) -> None:
        """The machines *names* vanish with all they hold."""
        for name in names:
            del self.machines[name]

    def stop(self, *names: str) -> None:
        for name in names:
            self.machines[name].running = False

    def apply(self, act: Act) -> None:
        if act[0].verb in WRITTEN_TOGETHER:
            assert self.forest
            gone, fresh = subjects(act, Verb.RETIRE), subjects(act, Verb.RESERVE)
            self.forest = replaced(self.forest, gone, fresh, (), "run", NOON)
            return
        (step,) = act
        getattr(self, f"_{step.verb.name.lower()}")(step.subject)

    def _revive(self, name: str) -> None:
        self.machines.setdefault(name, Machine())

    def _create(self, name: str) -> None:
        assert name not in self.started, f"{name} is created again"
        self.machines.setdefault(name, Machine())

    def _record(self, name: str) -> None:
        assert self.forest
        self.forest = addressed(self.forest, [Server(name, f"2001:db8::{name[-1]}", {})])

    def _configure(self, name: str) -> None:
        assert name in self.machines

    def _start(self, name: str) -> None:
        machine = self.machines[name]
        assert self.forest
        assert self.forest.node(name).ip, f"{name} starts unrecorded"
        assert machine.store is StoreState.HELD or name not in self.started, (
            f"{name} starts without its store"
        )
        machine.store, machine.running = StoreState.HELD, True
        self.started.add(name)
        self.peers.add(name)

    def _remove_peer(self, name: str) -> None:
        voters = {each for each in self.peers if each in self.machines and self.machines[each].running}
        assert 2 * len(voters) > len(self.peers), "without a majority no peer can be removed"
        self.peers.discard(name)

    def _delete(self, name: str) -> None:
        assert self.forest
        assert self.forest.node(name).leaving, f"{name} is deleted before it is recorded as leaving"
        self.machines.pop(name, None)

    def _drop(self, name: str) -> None:
        assert self.forest
        assert name not in self.machines, f"{name} is forgotten while it exists"
        self.forest = self.forest.without(name)

    def _verify(self, name: str) -> None:
        assert self.forest
        living = {name for name, machine in self.machines.items() if machine.running}
        assert living == self.peers == {node.name for node in self.forest.staying}

    def _activate(self, name: str) -> None:
        assert self.forest
        self.forest = activated(self.forest)

    def _forget(self, name: str) -> None:
        assert not self.machines, "machines are left behind"
        self.forest = None


def acts(steps: tuple[Step, ...]) -> list[Act]:
    """The steps, one by one, but those of one write together."""
    return [
        tuple(group)
        for _, group in itertools.groupby(steps, lambda step: step.verb in WRITTEN_TOGETHER or step)
    ]


def wanted(nodes: int | None = None, **other: str) -> Wanted:
    return Wanted("oak", nodes, other.get("provider", "local"), registry_url="file:///r.json", run="run")


def unplanted(nodes: int) -> World:
    return World(reserve(None, wanted(nodes), NOON))


def planted(nodes: int) -> World:
    world = unplanted(nodes)
    for act in world.plan():
        world.apply(act)
    return world


def names(*numbers: int) -> tuple[str, ...]:
    return tuple(f"oak-node-{k}" for k in numbers)


# How many nodes, how many of them lost, and how many of the others stopped.
DAMAGES = [
    (nodes, lost, stopped)
    for nodes in (1, 3, 5)
    for lost in range((nodes + 1) // 2)
    for stopped in range(nodes - lost + 1)
]


def damaged(nodes: int, lost: int, stopped: int) -> World:
    world = planted(nodes)
    world.lose(*names(*range(nodes - lost + 1, nodes + 1)))
    world.stop(*names(*range(1, stopped + 1)))
    return world


def prefixes(world: World) -> Iterator[World]:
    """*world* after a plan for it was stopped: before its first act, after each one, after the last."""
    for k in range(len(world.plan()) + 1):
        stopped = copy.deepcopy(world)
        for act in world.plan()[:k]:
            stopped.apply(act)
        yield stopped


def finished(world: World) -> World:
    done = copy.deepcopy(world)
    for act in world.plan():
        done.apply(act)
    return done


# Planting


@pytest.mark.parametrize("nodes", [1, 3, 5])
def test_a_fresh_forest_becomes_active_with_all_its_nodes(nodes: int) -> None:
    world = planted(nodes)

    assert world.forest
    assert world.forest.status == Status.ACTIVE
    assert [node.name for node in world.forest.nodes] == list(names(*range(1, nodes + 1)))
    assert all(node.status == Status.ACTIVE and node.ip for node in world.forest.nodes)
    assert all(machine.running for machine in world.machines.values())


@pytest.mark.parametrize("nodes", [1, 3, 5])
def test_a_first_plant_stopped_anywhere_and_twice_ends_the_same(nodes: int) -> None:
    end = planted(nodes)

    for once in prefixes(unplanted(nodes)):
        for twice in prefixes(once):
            assert finished(twice) == end


@pytest.mark.parametrize(("nodes", "lost", "stopped"), DAMAGES)
def test_healing_stopped_anywhere_and_twice_ends_the_same(nodes: int, lost: int, stopped: int) -> None:
    world = damaged(nodes, lost, stopped)
    end = finished(world)

    for once in prefixes(world):
        for twice in prefixes(once):
            assert finished(twice) == end


@pytest.mark.parametrize(("nodes", "lost", "stopped"), DAMAGES)
def test_healing_ends_with_as_many_nodes_and_never_with_a_lost_name(
    nodes: int, lost: int, stopped: int
) -> None:
    world = finished(damaged(nodes, lost, stopped))

    kept, fresh = names(*range(1, nodes - lost + 1)), names(*range(nodes + 1, nodes + lost + 1))
    assert world.forest
    assert tuple(node.name for node in world.forest.nodes) == kept + fresh
    assert world.forest.used_numbers == tuple(range(1, nodes + lost + 1))
    assert set(world.machines) == world.peers == {*kept, *fresh}


def test_names_are_not_used_again_after_many_losses() -> None:
    world = planted(3)
    for k in range(3, 9):
        world.lose(f"oak-node-{k}")
        world = finished(world)

    assert set(world.machines) == set(names(1, 2, 9))


@pytest.mark.parametrize(("nodes", "lost", "stopped"), DAMAGES)
def test_peers_go_after_the_survivors_run_and_before_fresh_nodes_come(
    nodes: int, lost: int, stopped: int
) -> None:
    world = damaged(nodes, lost, stopped)
    survivors, gone = set(world.machines), {*names(*range(nodes - lost + 1, nodes + 1))}

    for act in world.plan():
        verb = act[0].verb
        if verb is Verb.REMOVE_PEER:
            assert act[0].subject in gone
            assert all(world.machines[name].running for name in survivors)
            assert set(world.machines) == survivors
        if verb is Verb.CREATE:
            assert not gone & (world.peers | set(world.machines))
        world.apply(act)


def test_a_healthy_forest_is_only_verified() -> None:
    world = planted(3)

    verbs = {act[0].verb for act in world.plan()}

    assert verbs == {Verb.CONFIGURE, Verb.VERIFY, Verb.ACTIVATE}


def test_a_store_that_was_emptied_is_a_lost_one() -> None:
    world = planted(3)
    world.machines["oak-node-2"] = Machine(StoreState.GONE, running=True)

    assert set(finished(world).machines) == set(names(1, 3, 4))


def test_a_further_loss_during_healing_is_healed_too() -> None:
    world = planted(5)
    world.lose("oak-node-5")

    for interrupted in prefixes(world):
        interrupted.lose("oak-node-4")
        done = finished(interrupted)

        assert done.forest
        assert len(done.machines) == len(done.forest.staying) == 5
        assert {*names(1, 2, 3)} < done.machines.keys()


@pytest.mark.parametrize("nodes", [3, 5])
def test_a_store_lost_during_the_first_plant_is_replaced_or_refused(nodes: int) -> None:
    for interrupted in prefixes(unplanted(nodes)):
        for name in list(interrupted.machines):
            world = copy.deepcopy(interrupted)
            world.lose(name)
            try:
                done = finished(world)
            except RefusedError:
                continue
            assert done.forest
            assert len(done.machines) == len(done.forest.staying) == nodes


def test_nodes_that_a_forest_is_born_with_count_before_they_started() -> None:
    world = unplanted(3)
    for act in world.plan():
        if act == (Step(Verb.START, "oak-node-2"),):
            break
        world.apply(act)
    world.lose("oak-node-3")

    assert set(finished(world).machines) == set(names(1, 2, 4))


def test_a_first_start_that_failed_is_tried_again_under_the_same_name() -> None:
    world = unplanted(1)
    for act in world.plan()[:3]:
        world.apply(act)
    world.machines["oak-node-1"].store = StoreState.GONE  # the program was started and wrote nothing

    assert set(finished(world).machines) == set(names(1))


# Refusing


@pytest.mark.parametrize(("nodes", "lost"), [(3, 2), (3, 3), (5, 3), (5, 4), (5, 5)])
def test_without_a_majority_of_stores_nothing_is_planned(nodes: int, lost: int) -> None:
    world = damaged(nodes, lost, 0)

    with pytest.raises(RefusedError) as refused:
        world.plan()

    sentence = str(refused.value)
    assert all(name in sentence for name in names(*range(nodes - lost + 1, nodes + 1)))
    assert "nothing was changed" in sentence
    assert "morpheus teardown oak" in sentence


def test_the_only_node_lost_is_refused_and_teardown_named() -> None:
    with pytest.raises(RefusedError, match=r"oak-node-1, the only node.*morpheus teardown oak"):
        damaged(1, 1, 0).plan()


def test_a_second_loss_is_refused_while_the_first_one_is_still_a_peer() -> None:
    world = planted(3)
    world.lose("oak-node-3")
    for act in itertools.takewhile(lambda act: act[0].verb is not Verb.REMOVE_PEER, world.plan()):
        world.apply(act)
    world.lose("oak-node-2")

    with pytest.raises(RefusedError):
        world.plan()


def test_a_node_that_never_started_stands_in_for_nobody() -> None:
    world = planted(3)
    world.lose("oak-node-3")
    for act in world.plan():
        if act == (Step(Verb.START, "oak-node-4"),):
            break
        world.apply(act)
    assert world.machines["oak-node-4"].store is StoreState.FRESH
    world.lose("oak-node-2")

    with pytest.raises(RefusedError, match="majority of its 2 nodes"):
        world.plan()


def test_another_size_is_refused_and_grow_named() -> None:
    with pytest.raises(RefusedError, match=r"has 3 node\(s\), not 5.*morpheus grow oak"):
        reserve(planted(3).forest, wanted(5), NOON)


def test_a_forest_that_is_being_torn_down_is_refused_and_teardown_named() -> None:
    forest = planted(3).forest
    assert forest

    with pytest.raises(RefusedError, match="morpheus teardown oak"):
        reserve(torn(forest), wanted(), NOON)


def test_a_forest_of_another_provider_is_refused() -> None:
    with pytest.raises(RefusedError, match="local, not on hetzner"):
        reserve(planted(1).forest, wanted(provider="hetzner"), NOON)


@pytest.mark.parametrize("nodes", [None, 3])
def test_a_forest_of_the_same_size_is_taken_as_it_is(nodes: int | None) -> None:
    forest = planted(3).forest

    assert reserve(forest, wanted(nodes), NOON) is forest


@pytest.mark.parametrize("nodes", [0, 2, 101, -1])
def test_a_size_that_cannot_be_is_refused_before_anything_else(nodes: int) -> None:
    with pytest.raises(InvalidInputError):
        wanted(nodes)


def test_a_new_forest_reserves_all_names_before_any_machine() -> None:
    forest = reserve(None, wanted(), NOON)

    assert (forest.size, forest.status, forest.run) == ("medium", Status.PROVISIONING, "run")
    assert [node.name for node in forest.nodes] == list(names(1, 2, 3))
    assert {(node.ip, node.status, node.created_at) for node in forest.nodes} == {
        (None, Status.PROVISIONING, NOON)
    }


# Tearing down


def torn_down(world: World) -> list[Act]:
    return acts(plan_teardown(world.forest, "oak", world.seen()))


@pytest.mark.parametrize("nodes", [1, 3, 5])
def test_a_teardown_stopped_anywhere_leaves_nothing_in_the_end(nodes: int) -> None:
    for half_planted in [*prefixes(unplanted(nodes)), damaged(nodes, nodes // 2, 1)]:
        for k in range(len(torn_down(half_planted)) + 1):
            world = copy.deepcopy(half_planted)
            for act in torn_down(half_planted)[:k]:
                world.apply(act)
            for act in torn_down(world):
                world.apply(act)

            assert (world.forest, world.machines) == (None, {})


def test_a_teardown_removes_machines_first_and_the_record_last() -> None:
    steps = plan_teardown(planted(3).forest, "oak", planted(3).seen())

    assert [step.verb for step in steps] == [Verb.RETIRE] * 3 + [Verb.DELETE] * 3 + [Verb.FORGET]


def test_a_teardown_takes_along_what_no_record_knows() -> None:
    seen = {"oak-node-9": Sight()}

    assert subjects(plan_teardown(planted(1).forest, "oak", seen), Verb.DELETE) == names(1, 9)
    assert plan_teardown(None, "oak", seen) == (Step(Verb.DELETE, "oak-node-9"),)
    assert plan_teardown(None, "oak", {}) == ()


# Taking back


def test_a_first_plant_that_is_taken_back_leaves_no_forest() -> None:
    forest = unplanted(3).forest
    assert forest

    assert undone(forest, "run", names(1, 2, 3)) is None


def test_machines_that_could_not_be_taken_back_stay_recorded() -> None:
    forest = unplanted(3).forest
    assert forest

    rest = undone(forest, "run", names(1, 3))

    assert rest
    assert [node.name for node in rest.nodes] == list(names(2))
    assert rest.fresh_names(1) == names(4)


def test_taking_back_another_runs_resumption_keeps_its_names_reserved() -> None:
    world = unplanted(3)
    for act in world.plan()[:6]:
        world.apply(act)
    assert world.forest
    assert all(node.ip for node in world.forest.nodes)

    rest = undone(world.forest, "second run", names(2))

    assert rest
    assert [(node.name, bool(node.ip)) for node in rest.nodes] == [
        ("oak-node-1", True), ("oak-node-2", False), ("oak-node-3", True)
    ]  # fmt: skip


def test_a_replacement_that_is_taken_back_is_still_missing_and_made_by_the_next_plant() -> None:
    world = planted(3)
    assert world.forest
    world.forest = replace(world.forest, run="first run")
    world.lose("oak-node-3")
    for act in itertools.takewhile(lambda act: act[0].verb is not Verb.START, world.plan()):
        world.apply(act)
    world.lose("oak-node-4")

    world.forest = undone(world.forest, "run", names(4))

    assert world.forest
    assert [node.name for node in made_by(world.forest, "run")] == list(names(4))
    assert reserve(world.forest, wanted(3), NOON) is world.forest
    assert set(finished(world).machines) == set(names(1, 2, 4))


# The record


def test_retired_nodes_are_routed_to_no_more_but_not_forgotten() -> None:
    forest = planted(3).forest
    assert forest

    forest = retired(forest, names(2))

    assert [node.name for node in forest.staying] == list(names(1, 3))
    assert len(forest.nodes) == 3


def test_an_address_keeps_what_the_record_says_besides() -> None:
    forest = Forest("oak", nodes=(Node("oak-node-1", metadata={"a": "1", "b": "2"}),))

    node = addressed(forest, [Server("oak-node-1", "::1", {}, {"b": "3"})]).node("oak-node-1")

    assert (node.ip, node.metadata) == ("::1", {"a": "1", "b": "3"})


def test_steps_read_as_sentences() -> None:
    assert str(Step(Verb.REMOVE_PEER, "oak-node-3")) == "remove from the cluster oak-node-3"


def test_a_node_of_another_forest_in_the_record_is_never_deleted_and_stops_a_plant() -> None:
    forest = Forest("fir").with_nodes(Node("fir-node-1", "2001:db8::1"), Node("elm-node-1", "2001:db8::2"))

    steps = plan_teardown(forest, "fir", {})

    assert subjects(steps, Verb.DELETE) == ("fir-node-1",)
    with pytest.raises(RefusedError, match="elm-node-1"):
        reserve(forest, Wanted("fir", None, "local"), datetime.now(UTC))
