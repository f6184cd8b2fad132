"""What plans refuse, and what they take as it is: stores lost, another size, another provider."""

import itertools
from decimal import Decimal

import pytest

from morpheus.errors import InvalidInputError, RefusedError
from morpheus.forest import Forest, Node, Price, Status
from morpheus.machine import StoreState
from morpheus.plan import Step, Verb, check_budget, reserve, torn
from tests.morpheus.documents import NOON
from tests.morpheus.model import damaged, names, planted, wanted


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


# The budget

COSTS = Price(Decimal("0.006"), Decimal(4))


def paid(name: str, nodes: int, price: Price = COSTS) -> Forest:
    every = (Node(f"{name}-node-{k}", metadata=price.metadata) for k in range(1, nodes + 1))
    return Forest(name, "hetzner", nodes=tuple(every))


def test_a_price_that_nobody_knows_passes_no_budget() -> None:
    with pytest.raises(RefusedError, match="What elm would cost is not known"):
        check_budget({}, paid("elm", 1, Price()), 100)


def test_a_node_whose_price_nobody_recorded_counts_as_a_new_one() -> None:
    others = {"oak": paid("oak", 3, Price())}

    check_budget(others, paid("elm", 1), 16)
    with pytest.raises(RefusedError, match=r"together EUR 16\.00"):
        check_budget(others, paid("elm", 1), 15.99)


def test_a_price_below_nothing_makes_no_room() -> None:
    others = {"oak": paid("oak", 1, Price(Decimal(-1), Decimal(-1000)))}

    with pytest.raises(RefusedError, match=r"together EUR 8\.00"):
        check_budget(others, paid("elm", 1), 7)


def test_a_forest_that_gets_no_dearer_is_not_refused() -> None:
    check_budget({"oak": paid("oak", 3)}, paid("oak", 3), 1)
