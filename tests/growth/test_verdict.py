"""The verdict over tables of readings: when a forest grows, by how much, and what keeps it from that."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from morpheus.forest import Forest, Price
from morpheus.growth import Outcome, Policy, Vitals, Why, asked_by_a_person, cooling, judge, point, steps
from morpheus.settings import Settings
from morpheus.trend import Kind
from tests.growth.sample import NOW, POLICY, PRICE, facts, minutes, oak, readings, vitals

HOT = vitals(2, cpu=90.0)


def test_a_forest_below_every_threshold_needs_nothing() -> None:
    verdict = judge(facts(oak()), POLICY)

    assert (verdict.outcome, verdict.wanted, verdict.breaches) == (Outcome.NOTHING, 0, ())
    assert verdict.sentence == "It needs no more nodes: all 3 nodes are below every threshold."


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("cpu", "CPU above 80% on node-2"),
        ("memory", "Memory above 80% on node-2"),
        ("jetstream_memory", "JetStream memory above 80% on node-2"),
        ("storage", "Storage above 80% on node-2"),
        ("disk", "Disk above 80% on node-2"),
    ],
)
def test_each_kind_of_load_of_the_worst_node_calls_for_one(kind: str, sentence: str) -> None:
    verdict = judge(facts(oak(), vitals(2, **{kind: 80.1})), POLICY)

    assert (verdict.outcome, verdict.wanted) == (Outcome.GROW, 1)
    assert verdict.sentence == f"It needs 1 more node(s): {sentence}."
    breach = verdict.breaches[0]
    assert (breach.node, breach.kind.replace("-", "_"), breach.value, breach.threshold) == (
        *("oak-node-2", kind),
        *(80.1, 80.0),
    )


def test_what_is_at_its_threshold_is_not_above() -> None:
    assert judge(facts(oak(), vitals(2, cpu=80.0)), POLICY).outcome is Outcome.NOTHING


def test_each_kind_has_its_own_threshold() -> None:
    settings = Settings.model_validate(
        {"growth": {"threshold_cpu": 50, "threshold_memory": 60, "threshold_storage": 70}}
    )
    hot = vitals(1, cpu=55, memory=65, jetstream_memory=65, storage=75, disk=65)

    verdict = judge(facts(oak(), hot), Policy.of(settings))

    assert [(each.kind, each.threshold) for each in verdict.breaches] == [
        (Kind.CPU, 50),
        (Kind.MEMORY, 60),
        (Kind.JETSTREAM_MEMORY, 60),
        (Kind.STORAGE, 70),
    ]
    assert judge(facts(oak(), hot), Policy.of(settings, 90)).outcome is Outcome.NOTHING
    assert set(Policy.of(settings, 5).thresholds.values()) == {5}


@pytest.mark.parametrize(
    ("nodes", "odd", "step"),
    [(1, False, 2), (1, True, 2), (2, False, 1), (3, False, 1), (4, True, 1), (3, True, 2), (9, True, 2)],
)
def test_one_becomes_three_and_the_rest_grows_by_the_step(nodes: int, odd: bool, step: int) -> None:
    policy = replace(POLICY, odd=odd, max_nodes=11)

    verdict = judge(facts(oak(nodes), vitals(1, disk=99)), policy)

    assert verdict.suggested == steps(nodes, odd=odd) == step
    assert (verdict.wanted, verdict.why) == (step, None)


@pytest.mark.parametrize(
    ("nodes", "most", "odd"), [(1, 2, False), (1, 1, False), (3, 3, False), (3, 4, True), (5, 3, False)]
)
def test_it_never_has_more_nodes_than_it_may(nodes: int, most: int, odd: bool) -> None:
    policy = replace(POLICY, max_nodes=most, odd=odd)

    verdict = judge(facts(oak(nodes), vitals(1, cpu=99)), policy)

    assert (verdict.outcome, verdict.why, verdict.wanted) == (Outcome.MAY_NOT, Why.MAX_NODES, 0)
    assert f"growth.max_nodes is {most}" in verdict.sentence
    assert verdict.suggested == steps(nodes, odd=odd)


@pytest.mark.parametrize(
    ("grew", "left"),
    [
        (None, 0),
        (NOW - minutes(15), 0),
        (NOW - minutes(14), 1),
        (NOW, 15),
        (NOW + minutes(600), 15),  # the clock of who wrote it was wrong: it counts as now
        (datetime(1, 1, 1, tzinfo=UTC), 0),
    ],
)
def test_the_cooldown_is_kept_by_the_time_of_the_store(grew: datetime | None, left: int) -> None:
    assert cooling(grew, NOW, minutes(15)) == minutes(left)

    verdict = judge(facts(oak(last_expansion=grew), HOT), POLICY)

    assert (verdict.outcome is Outcome.GROW) == (left == 0)
    assert (verdict.why is Why.COOLDOWN) == (left > 0)


def test_growth_that_is_disabled_is_told_and_a_person_may_have_it() -> None:
    policy = replace(POLICY, enabled=False)

    verdict = judge(facts(oak(), HOT), policy)

    assert (verdict.outcome, verdict.why, verdict.a_person_may) == (Outcome.MAY_NOT, Why.DISABLED, True)
    assert verdict.sentence == (
        "It would grow by 1 node(s) (CPU above 80% on node-2), but growth is disabled."
    )
    assert judge(facts(oak(), HOT), asked_by_a_person(policy)).outcome is Outcome.GROW


def test_nobody_grows_past_other_obstacles_because_growth_is_disabled() -> None:
    verdict = judge(facts(oak(last_expansion=NOW), HOT), replace(POLICY, enabled=False))

    assert [each.why for each in verdict.obstacles] == [Why.COOLDOWN, Why.DISABLED]
    assert not verdict.a_person_may


def test_the_budget_is_that_of_all_forests_and_the_price_is_told() -> None:
    elm = Forest("elm", nodes=oak().nodes)
    known = {"oak": oak(), "elm": elm}
    seven = float(PRICE.monthly * 7)

    grown = judge(facts(oak(), HOT, recorded=known), replace(POLICY, budget=seven))
    too_dear = judge(facts(oak(), HOT, recorded=known), replace(POLICY, budget=seven - 0.01))

    assert (grown.outcome, grown.price) == (Outcome.GROW, PRICE)
    assert (too_dear.outcome, too_dear.why, too_dear.price) == (Outcome.MAY_NOT, Why.BUDGET, PRICE)
    assert "budget.max_monthly_eur" in too_dear.sentence
    assert judge(facts(oak(1), vitals(1, cpu=99)), POLICY).price == Price(Decimal("0.0122"), Decimal("7.84"))


def test_a_price_that_nobody_knows_passes_no_budget() -> None:
    verdict = judge(facts(oak(), HOT, price=None), replace(POLICY, budget=1000))

    assert (verdict.why, verdict.price) == (Why.BUDGET, None)
    assert judge(facts(oak(), HOT, price=None), POLICY).outcome is Outcome.GROW


def test_a_forest_of_one_whose_workload_brings_its_server_never_becomes_a_cluster() -> None:
    verdict = judge(facts(oak(1, brought=True), vitals(1, cpu=99)), POLICY)

    assert (verdict.outcome, verdict.why) == (Outcome.MAY_NOT, Why.EMBEDDED)
    assert judge(facts(oak(3, brought=True), HOT), POLICY).outcome is Outcome.GROW


# What is not well, and what is not known


def test_an_unreachable_node_is_no_idle_one_and_keeps_the_forest_as_it_is() -> None:
    away = Vitals("oak-node-3", "unreachable (no answer within 2 s)", reachable=False)

    verdict = judge(facts(oak(), HOT, away), POLICY)

    assert (verdict.outcome, verdict.wanted) == (Outcome.UNHEALTHY, 0)
    assert verdict.reasons == ("node-3 is unreachable (no answer within 2 s)",)
    assert [each.node for each in verdict.breaches] == ["oak-node-2"]


def test_a_cluster_that_is_not_formed_does_not_grow() -> None:
    verdict = judge(facts(oak(), HOT, fault="oak-node-3 is not current"), POLICY)

    assert (verdict.outcome, verdict.reasons) == (Outcome.UNHEALTHY, ("oak-node-3 is not current",))


@pytest.mark.parametrize("status", ["provisioning", "deleting", "strange"])
def test_only_an_active_forest_grows(status: str) -> None:
    verdict = judge(facts(oak(status=status), HOT), POLICY)

    assert (verdict.outcome, verdict.reasons) == (Outcome.UNHEALTHY, (f"the forest is {status}",))


def test_a_forest_whose_expansion_was_interrupted_is_told_how_to_go_on() -> None:
    verdict = judge(facts(oak(status="growing"), HOT), POLICY)

    assert (verdict.outcome, verdict.wanted) == (Outcome.UNHEALTHY, 0)
    assert "growing again goes on with it" in verdict.sentence


@pytest.mark.parametrize(
    ("hot", "why"),
    [
        (vitals(2, cpu=90), Why.ONE_MACHINE),
        (vitals(2, memory=90), Why.ONE_MACHINE),
        (vitals(2, disk=90), Why.ONE_MACHINE),
        (vitals(2, storage=90), None),
        (vitals(2, cpu=90, storage=90), None),
    ],
)
def test_the_load_of_one_computer_calls_for_no_more_nodes_on_it(hot: Vitals, why: Why | None) -> None:
    verdict = judge(facts(replace(oak(), provider="local"), hot), POLICY)

    assert (verdict.why, verdict.wanted) == (why, 0 if why else 1)


def test_a_forest_without_nodes_does_not_grow() -> None:
    assert judge(facts(oak(0)), POLICY).outcome is Outcome.UNHEALTHY


def test_what_is_unknown_is_neither_above_nor_fine() -> None:
    verdict = judge(facts(oak(), vitals(2, cpu=None, storage=None)), POLICY)

    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.sentence == (
        "Whether it needs nodes is not known: CPU, Storage of node-2 cannot be measured."
    )


def test_what_is_known_to_be_above_counts_beside_what_is_not_known() -> None:
    verdict = judge(facts(oak(), vitals(2, cpu=90, storage=None)), POLICY)

    assert verdict.outcome is Outcome.GROW


@pytest.mark.parametrize("unseen", [Vitals("oak-node-3"), Vitals("oak-node-3", reachable=True)])
def test_no_forest_grows_while_nothing_at_all_is_known_of_a_node(unseen: Vitals) -> None:
    assert judge(facts(oak(), HOT, unseen), POLICY).outcome is Outcome.UNKNOWN


def test_a_forest_that_nobody_could_look_into_says_why() -> None:
    blind = [Vitals(f"oak-node-{k}") for k in (1, 2, 3)]

    verdict = judge(facts(oak(), *blind, unread="The key is not on this device."), POLICY)

    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.sentence == "Whether it needs nodes is not known: The key is not on this device."


def test_a_node_that_nobody_measured_is_not_known() -> None:
    known = facts(oak(), HOT)

    assert judge(replace(known, vitals=known.vitals[:2]), POLICY).outcome is Outcome.UNKNOWN


# Sustained


SUSTAINED = replace(POLICY, sustained=minutes(15))


@pytest.mark.parametrize(
    ("values", "grows"),
    [
        ([90, 90, 90], True),
        ([10, 90, 90, 90], True),
        ([90, 90], False),  # not so long yet
        ([90, 10, 90], False),
        ([], False),
    ],
)
def test_load_counts_once_readings_show_it_for_so_long(values: list[float], grows: bool) -> None:
    verdict = judge(facts(oak(), HOT, history=readings(values)), SUSTAINED)

    assert (verdict.outcome is Outcome.GROW) == grows
    assert (verdict.why is Why.NOT_SUSTAINED) != grows


def test_another_kind_of_load_does_not_sustain_this_one() -> None:
    history = readings([90, 90, 90, 90], kind=Kind.MEMORY)

    assert judge(facts(oak(), HOT, history=history), SUSTAINED).why is Why.NOT_SUSTAINED


def test_load_before_the_last_expansion_does_not_count() -> None:
    history = readings([90] * 12)
    grown = oak(last_expansion=NOW - minutes(12))

    verdict = judge(facts(grown, HOT, history=history), replace(SUSTAINED, cooldown=minutes(1)))

    assert verdict.why is Why.NOT_SUSTAINED


def test_a_reading_takes_the_worst_of_each_kind_and_the_sum_of_the_rest() -> None:
    known = facts(oak(2), vitals(1, cpu=30, disk=None), vitals(2, memory=70, disk=None))
    told = replace(known, vitals=[replace(each, connections=4, rate_in=1.5) for each in known.vitals])

    seen = point(told)

    assert seen.worst == {
        Kind.CPU: 30,
        Kind.MEMORY: 70,
        Kind.JETSTREAM_MEMORY: 10,
        Kind.STORAGE: 10,
    }
    assert (seen.connections, seen.rate_in, seen.rate_out, seen.nodes) == (8, 3.0, None, 2)


# Forecasts


def test_storage_that_fills_up_is_seen_coming() -> None:
    history = readings([float(k) for k in range(30, 60)], kind=Kind.STORAGE)

    verdict = judge(facts(oak(), vitals(1, storage=60), history=history), POLICY)

    assert verdict.outcome is Outcome.NOTHING
    told = [(each.kind, each.level, each.at - NOW) for each in verdict.forecasts]
    assert told == [(Kind.STORAGE, 80, minutes(100)), (Kind.STORAGE, 100, minutes(200))]
    assert [each.sentence(NOW) for each in verdict.forecasts] == [
        "Storage reaches 80% in about 100 min, if it goes on like this",
        "Storage is full in about 3 hours, if it goes on like this",
    ]


def test_readings_before_the_last_expansion_make_no_trend() -> None:
    history = readings([float(k) for k in range(30, 60)], kind=Kind.STORAGE)
    grown = oak(last_expansion=NOW - timedelta(minutes=16))

    assert judge(facts(grown, vitals(1, storage=60), history=history), POLICY).forecasts == ()
