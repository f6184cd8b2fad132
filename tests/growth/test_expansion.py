"""The right to expand: once for each decision, within its bounds, never while anything is unfinished."""

import contextlib
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morpheus.cloud import Server
from morpheus.errors import InvalidInputError, MorpheusError, OvertakenError, RefusedError
from morpheus.expansion import Decision, check_departure, claimed, shrunk, whole_name
from morpheus.forest import MAX_NODES, Forest, Migration, Node, Price, Status, size_word
from morpheus.growth import cooling
from morpheus.migration import Phase
from morpheus.plan import activated, addressed, check_budget, retired
from morpheus.registry.document import decode_time, encode_time
from tests.growth.sample import NOW, PRICE, minutes, oak

RUN = "a-run"
COMMITTED = Migration(Phase.COMMITTED, RUN, "oak-node-1", "beside", NOW, 5)
many = settings(max_examples=300)


def to(nodes: int, forest: Forest, **more: Any) -> Decision:
    """That *forest*, as it is now, is to have so many nodes."""
    return Decision(nodes, len(forest.staying), forest.last_expansion, **more)


def grown(forest: Forest) -> Forest:
    """*forest* when what was claimed stands and is proven."""
    fresh = [Server(node.name, f"10.0.0.{node.number}", {}) for node in forest.staying if not node.ip]
    return activated(addressed(forest, fresh))


# One claim


@pytest.mark.parametrize(
    ("nodes", "wanted", "fresh"), [(3, 4, [4]), (3, 5, [4, 5]), (4, 5, [5]), (5, 7, [6, 7])]
)
def test_a_claim_reserves_fresh_names_at_their_price_and_notes_the_expansion(
    nodes: int, wanted: int, fresh: list[int]
) -> None:
    forest = oak(nodes)

    claim = claimed(forest, to(wanted, forest), RUN, NOW, PRICE)

    assert claim.status == Status.GROWING
    assert claim.last_expansion == NOW
    assert claim.nodes[:nodes] == forest.nodes
    assert claim.nodes[nodes:] == tuple(
        Node(f"oak-node-{k}", created_at=NOW, run=RUN, metadata=PRICE.metadata) for k in fresh
    )
    assert claim.size == forest.size  # until they stand


def test_names_of_nodes_that_left_are_not_given_again() -> None:
    forest = shrunk(oak(5), "oak-node-4", "oak-node-5")

    claim = claimed(forest, to(4, forest), RUN, NOW, PRICE)

    assert [node.name for node in claim.nodes] == [f"oak-node-{k}" for k in (1, 2, 3, 6)]


HELD_BACK: list[tuple[Forest, dict[str, Any], type[MorpheusError], str]] = [
    (oak(3, status=Status.DELETING), {}, RefusedError, "morpheus teardown oak"),
    (oak(3, status=Status.PROVISIONING), {}, RefusedError, "morpheus plant"),
    (oak(3, status="on fire"), {}, RefusedError, "not whole"),
    (retired(oak(5), ("oak-node-2",)), {"nodes": 5}, RefusedError, "not whole"),
    (oak(1, brought=True), {"nodes": 3}, RefusedError, "workload of oak"),
    (oak(3), {"seen": 4}, OvertakenError, "not the 4"),
    (oak(3), {"expanded": NOW}, OvertakenError, "grown since"),
    (oak(3, last_expansion=NOW), {"expanded": None}, OvertakenError, "grown since"),
    (oak(3), {"nodes": 3}, InvalidInputError, "only adds"),
    (oak(5), {"nodes": 3}, InvalidInputError, "morpheus node remove oak"),
    (oak(3), {"nodes": 2}, InvalidInputError, "Two nodes"),
    (oak(3), {"nodes": MAX_NODES + 1}, InvalidInputError, "1 to 100"),
    (oak(3), {"most": 3}, RefusedError, "growth.max_nodes is 3"),
    (oak(3, last_expansion=NOW - minutes(14)), {"rest": minutes(15)}, RefusedError, "rests for 1 min"),
    (oak(3, last_expansion=NOW + minutes(90)), {"rest": minutes(15)}, RefusedError, "rests for 15 min"),
]


@pytest.mark.parametrize(("forest", "decided", "error", "words"), HELD_BACK)
def test_a_claim_that_cannot_be_given_says_why(
    forest: Forest, decided: dict[str, Any], error: type[MorpheusError], words: str
) -> None:
    decision = replace(to(4, forest), **decided)

    with pytest.raises(error, match=words):
        claimed(forest, decision, RUN, NOW, PRICE)


def test_a_cooldown_that_is_just_over_holds_nothing_back() -> None:
    forest = oak(3, last_expansion=NOW - minutes(15))

    assert claimed(forest, to(4, forest, rest=minutes(15)), RUN, NOW, PRICE).last_expansion == NOW


def test_an_unfinished_expansion_is_taken_on_by_the_next_run_and_gets_no_more() -> None:
    forest = oak(3)
    first = claimed(forest, to(4, forest), "the first", NOW, PRICE)
    later = NOW + minutes(60)

    second = claimed(first, to(9, first), "the second", later, Price())

    assert second == first.with_nodes(replace(first.node("oak-node-4"), run="the second"))
    assert second.last_expansion == NOW  # its cooldown counts from the claim


def test_an_unfinished_expansion_of_which_a_node_leaves_again_keeps_the_others() -> None:
    forest = oak(3)
    first = retired(claimed(forest, to(5, forest), "the first", NOW, PRICE), ("oak-node-5",))

    second = claimed(first, to(9, first), "the second", NOW, PRICE)

    assert second.node("oak-node-5") == first.node("oak-node-5")
    assert second.node("oak-node-4").run == "the second"


def test_what_is_claimed_counts_for_the_budget() -> None:
    forest, each = oak(3), float(PRICE.monthly)
    before = {"oak": forest, "elm": replace(oak(2), name="elm")}

    claim = claimed(forest, to(4, forest), RUN, NOW, PRICE)

    check_budget(before, claim, 6 * each)
    with pytest.raises(RefusedError, match=r"budget\.max_monthly_eur"):
        check_budget(before, claim, 6 * each - 0.01)
    check_budget({**before, "oak": claim}, claimed(claim, to(4, claim), "b", NOW, PRICE), each)  # no dearer


# Any forest, any decision


STATES = st.sampled_from([Status.ACTIVE] * 4 + [Status.GROWING, Status.PROVISIONING, Status.DELETING, "odd"])
AGO = st.one_of(st.none(), st.sampled_from([-600, -1, 0, 1, 14, 15, 16, 1000]).map(minutes))


@st.composite
def forests(draw: st.DrawFn) -> Forest:
    grew = draw(AGO)
    forest = oak(draw(st.integers(0, 9)), last_expansion=None if grew is None else NOW - grew)
    forest = replace(forest, status=draw(STATES))
    leaving = (
        draw(st.sets(st.sampled_from([node.name for node in forest.nodes]), max_size=1))
        if forest.nodes
        else ()
    )
    reserved = [Node(name, run="another") for name in forest.fresh_names(draw(st.sampled_from([0, 0, 1, 2])))]
    return retired(forest.with_nodes(*reserved), tuple(leaving))


@st.composite
def decisions(draw: st.DrawFn, forest: Forest) -> Decision:
    true = to(len(forest.staying) + draw(st.integers(-2, 4)), forest)
    return replace(
        true,
        seen=draw(st.sampled_from([true.seen, true.seen, true.seen, true.seen + 1, true.seen - 1])),
        expanded=draw(st.sampled_from([true.expanded, true.expanded, true.expanded, None, NOW])),
        most=draw(st.sampled_from([MAX_NODES, 12, 5, 3])),
        rest=draw(st.sampled_from([0, 0, 1, 15, 60])) * timedelta(minutes=1),
    )


def tried(forest: Forest, decision: Decision, run: str = RUN, now: datetime = NOW) -> Forest | None:
    """The claim; None where none is given."""
    with contextlib.suppress(MorpheusError):
        return claimed(forest, decision, run, now, PRICE)
    return None


@many
@given(st.data())
def test_no_claim_ever_breaks_a_bound(data: st.DataObject) -> None:
    forest = data.draw(forests())
    decision = data.draw(decisions(forest))

    claim = tried(forest, decision)

    if claim is None or forest.status == Status.GROWING:
        return
    assert forest.status == Status.ACTIVE
    assert not any(node.leaving for node in forest.nodes)
    assert cooling(forest.last_expansion, NOW, decision.rest) == timedelta()
    assert (len(forest.nodes), forest.last_expansion) == (decision.seen, decision.expanded)
    assert 1 <= len(forest.nodes) < len(claim.staying) == decision.nodes <= decision.most
    assert decision.nodes >= 3
    assert not {node.name for node in claim.nodes[len(forest.nodes) :]} & {node.name for node in forest.nodes}


@many
@given(st.data())
def test_a_claim_never_takes_anything_from_a_forest(data: st.DataObject) -> None:
    forest = data.draw(forests())

    claim = tried(forest, data.draw(decisions(forest)))

    if claim is None:
        return
    before = {node.name: replace(node, run=None) for node in forest.nodes}
    after = {node.name: replace(node, run=None) for node in claim.nodes}
    assert before.items() <= after.items()
    assert claim.last_expansion is not None or forest.status == Status.GROWING
    if forest.last_expansion is not None:
        assert claim.last_expansion is not None
        assert claim.last_expansion >= forest.last_expansion
    if forest.status == Status.GROWING:
        assert before == after
        assert claim.last_expansion == forest.last_expansion


@many
@given(st.data(), st.sampled_from([-600.0, -1.0, 0.0, 1.0, 30.0, 100_000.0]).map(minutes))
def test_one_decision_is_carried_out_once(data: st.DataObject, later: timedelta) -> None:
    """Also when what it added has left again since, and whatever the clock says then."""
    forest = data.draw(forests())
    decision = data.draw(decisions(forest))
    first = tried(forest, decision)
    if first is None or forest.status == Status.GROWING:
        return

    unfinished = tried(first, decision, "another", NOW + later)
    done = grown(first)
    again = tried(done, decision, "another", NOW + later)
    back = shrunk(done, *(node.name for node in done.nodes[len(forest.nodes) :]))
    once_more = tried(back, decision, "another", NOW + later)

    assert unfinished is not None
    assert [node.name for node in unfinished.nodes] == [node.name for node in first.nodes]
    assert again is None
    assert once_more is None


@pytest.mark.parametrize("later", [-600.0, 0.0, 5.0])
def test_a_decision_never_fits_again_although_the_forest_has_shrunk_and_the_clock_went_back(
    later: float,
) -> None:
    forest = oak(3, last_expansion=NOW)
    decision = to(4, forest)
    done = grown(claimed(forest, decision, RUN, NOW + minutes(later), PRICE))

    back = shrunk(done, "oak-node-4")

    with pytest.raises(OvertakenError):
        claimed(back, decision, RUN, NOW, PRICE)


@many
@given(st.lists(st.tuples(st.integers(-30, 60), st.sampled_from([0, 15]), st.booleans()), max_size=12))
def test_unasked_expansions_are_never_closer_than_the_cooldown(turns: list[tuple[int, int, bool]]) -> None:
    """Whatever a clock does, and whoever else grows the forest meanwhile; *rest* 0 is a person."""
    forest, now, cooldown = oak(3), NOW, minutes(15)
    for step, rest, done in turns:
        now += minutes(step)
        last = forest.last_expansion
        claim = tried(forest, to(len(forest.staying) + 1, forest, rest=minutes(rest)), now=now)
        if claim is None:
            continue
        if rest and forest.status == Status.ACTIVE and last is not None:
            assert now - last >= cooldown
        assert last is None or (claim.last_expansion is not None and claim.last_expansion >= last)
        forest = grown(claim) if done else claim


def test_the_time_of_an_expansion_is_the_same_after_it_was_written() -> None:
    """What reads it from the registry decides with that; to grow on, it has to be the very same."""
    forest = oak(3)
    now = NOW + timedelta(microseconds=123456)

    claim = claimed(forest, to(4, forest), RUN, now, PRICE)

    assert claim.last_expansion is not None
    assert decode_time(encode_time(claim.last_expansion)) == claim.last_expansion


# Leaving


@pytest.mark.parametrize("said", ["oak-node-4", "node-4", "4"])
def test_a_node_is_meant_by_its_name_its_label_or_its_number(said: str) -> None:
    assert whole_name(oak(5), said) == "oak-node-4"


def test_what_is_no_node_stays_as_it_was_said() -> None:
    assert whole_name(oak(3), "node-4") == "node-4"


@pytest.mark.parametrize(
    ("forest", "node", "error", "words"),
    [
        (oak(4), "elm-node-1", InvalidInputError, "It has node-1, node-2, node-3, node-4"),
        (oak(4, brought=True), "oak-node-1", RefusedError, "owns its cluster"),
        (oak(3), "oak-node-1", RefusedError, "would have 2 node"),
        (oak(1), "oak-node-1", RefusedError, "would have 0 node"),
        (retired(oak(4), ("oak-node-2",)), "oak-node-1", RefusedError, "would have 2 node"),
        (oak(4, status=Status.DELETING), "oak-node-1", RefusedError, "morpheus teardown oak"),
        (oak(5, migration=COMMITTED), "oak-node-1", RefusedError, "Finish that first with morpheus grow oak"),
    ],
)
def test_a_node_that_may_not_leave_is_refused(
    forest: Forest, node: str, error: type[MorpheusError], words: str
) -> None:
    with pytest.raises(error, match=words):
        check_departure(forest, node)


def test_a_node_on_its_way_out_may_go_on() -> None:
    check_departure(retired(oak(4), ("oak-node-2",)), "oak-node-2")


@given(st.integers(4, 9))
def test_a_shrunk_forest_is_active_and_has_the_word_of_its_size(nodes: int) -> None:
    forest = retired(oak(nodes, size=size_word(nodes)), (f"oak-node-{nodes}",))

    rest = shrunk(forest, f"oak-node-{nodes}")

    assert rest.status == Status.ACTIVE
    assert rest.size == size_word(nodes - 1)
    assert nodes in rest.used_numbers
    assert rest.price.monthly == (nodes - 1) * Decimal("3.92")


def test_a_shrunk_forest_that_is_unfinished_stays_so() -> None:
    forest = oak(3)
    claim = retired(claimed(forest, to(5, forest), RUN, NOW, PRICE), ("oak-node-5",))

    assert shrunk(claim, "oak-node-5").status == Status.GROWING
    assert shrunk(claim, "oak-node-5", "oak-node-4").status == Status.ACTIVE
