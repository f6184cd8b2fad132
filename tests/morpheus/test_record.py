"""How the record of a forest changes: a run is taken back, nodes are retired, addresses come."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from morpheus.cloud import Server
from morpheus.errors import RefusedError
from morpheus.forest import Forest, Node
from morpheus.plan import (
    Step,
    Verb,
    Wanted,
    addressed,
    keyed,
    made_by,
    offered,
    plan_teardown,
    replaced,
    reserve,
    retired,
    subjects,
    taken,
    undone,
)
from tests.morpheus.documents import NOON
from tests.morpheus.model import finished, names, planted, unplanted, wanted

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


def test_a_first_plant_that_replaced_a_machine_is_taken_back_whole() -> None:
    """Also when it ends while that machine is on its way out."""
    forest = unplanted(3).forest
    assert forest
    forest = replaced(forest, names(2), names(4), (), "run", NOON)

    assert [node.name for node in made_by(forest, "run")] == list(names(1, 2, 3, 4))
    assert undone(forest, "run", names(1, 2, 3, 4)) is None


# The record


def test_a_host_key_that_was_taken_stays_taken() -> None:
    """The answer to that write may be lost, and then it comes twice."""
    forest = Forest("oak").with_nodes(Node("oak-node-1"))
    known = offered(keyed(forest, {"oak-node-1": "born"}, 22), {"oak-node-1": "own"})

    once = taken(known.node("oak-node-1"))

    assert once.metadata == {"host_key": "own", "ssh_port": "22"}
    assert taken(once) == once


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
