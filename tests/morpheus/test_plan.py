"""Plans in a model of the world: stopped after every step and made again, they end in the same place."""

import copy

import pytest

from morpheus.errors import RefusedError
from morpheus.forest import Status
from morpheus.machine import StoreState
from morpheus.plan import Sight, Step, Verb, plan_teardown, subjects
from tests.morpheus.model import (
    DAMAGES,
    Act,
    Machine,
    World,
    acts,
    damaged,
    finished,
    names,
    planted,
    prefixes,
    unplanted,
)

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
