"""What holds for every verdict, whatever was measured, recorded and configured."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from morpheus.forest import Forest, Price
from morpheus.growth import Facts, Outcome, Policy, Verdict, Vitals, cooling, judge, point
from morpheus.trend import Kind, Point
from tests.growth.sample import NOW, PRICE, minutes, oak, readings

PERCENT = st.sampled_from([0.0, 50.0, 80.0, 80.5, 99.0, 120.0])
AGO = st.sampled_from([-600, -1, 0, 1, 5, 14, 15, 16, 30, 100_000]).map(minutes)
LOADS = st.one_of(
    st.dictionaries(st.sampled_from(Kind), PERCENT), st.fixed_dictionaries(dict.fromkeys(Kind, PERCENT))
)
POINTS = st.lists(
    st.builds(
        lambda ago, worst: Point(NOW - minutes(ago), 3, worst),
        st.integers(-20, 60),
        st.dictionaries(st.sampled_from(Kind), PERCENT),
    ),
    max_size=12,
)
many = settings(max_examples=300)
STEADY = st.builds(
    lambda every, count, loads: [Point(NOW - minutes(every * k), 3, loads) for k in range(1, count)],
    st.integers(1, 10),
    st.integers(1, 12),
    PERCENT.map(functools.partial(dict.fromkeys, Kind)),
)
EASY: dict[str, Any] = {"max_nodes": 12, "cooldown": minutes(0), "sustained": minutes(0), "budget": None}
ANY_POLICY = st.builds(
    Policy,
    enabled=st.sampled_from([True, True, True, False]),
    thresholds=st.fixed_dictionaries(dict.fromkeys(Kind, st.sampled_from([1.0, 80.0, 100.0]))),
    max_nodes=st.sampled_from([1, 2, 3, 4, 5, 9, 10, 12]),
    cooldown=st.sampled_from([0, 1, 15]).map(minutes),
    sustained=st.sampled_from([0, 0, 5, 20]).map(minutes),
    odd=st.booleans(),
    budget=st.one_of(st.none(), st.sampled_from([1.0, 15.0, 23.0, 60.0])),
)
POLICIES = st.builds(
    lambda policy, easy: replace(policy, **{key: EASY[key] for key in easy}),
    ANY_POLICY,
    st.sets(st.sampled_from(sorted(EASY))),  # so that one thing alone stands in the way often enough
)


HOT = st.fixed_dictionaries({**dict.fromkeys(Kind, PERCENT), Kind.CPU: st.just(120.0)})


@st.composite
def loaded(draw: st.DrawFn) -> Facts:
    """What is known of a healthy forest that needs nodes."""
    grew = draw(st.one_of(st.none(), AGO.map(lambda ago: NOW - ago)))
    forest = oak(draw(st.sampled_from([1, 2, 3, 3, 4, 9])), last_expansion=grew, brought=draw(st.booleans()))
    hot = draw(st.sampled_from(forest.nodes))
    measured = [
        Vitals(node.name, "current", reachable=True, loads=draw(HOT if node is hot else LOADS.filter(bool)))
        for node in forest.staying
    ]
    others = {"elm": Forest("elm", nodes=oak(draw(st.integers(0, 5))).nodes)}
    return Facts(
        forest,
        measured,
        NOW,
        history=draw(st.one_of(POINTS, STEADY, st.just(readings([90.0] * 40, every=1)))),
        recorded={"oak": forest, **others},
        price=draw(st.sampled_from([PRICE, PRICE, Price(), None])),
    )


@st.composite
def known(draw: st.DrawFn) -> Facts:
    """Facts of every kind: the same, with something wrong or unknown."""
    facts = draw(loaded())
    victim = draw(st.sampled_from(facts.vitals))
    change: dict[str, Any] = draw(
        st.sampled_from(
            [
                {"fault": "without a leader"},
                {"forest": replace(facts.forest, status="growing")},
                {"forest": replace(facts.forest, nodes=())},
                {"vitals": facts.vitals[1:]},
                *(
                    {"vitals": [worse if each is victim else each for each in facts.vitals]}
                    for worse in (
                        replace(victim, reachable=False),
                        replace(victim, reachable=None),
                        replace(victim, loads={}),
                        replace(victim, loads={Kind.DISK: 10.0}),
                        replace(victim, loads=dict.fromkeys(Kind, 10.0)),
                    )
                ),
                {},
            ]
        )
    )
    return replace(facts, **change)


@many
@given(loaded(), POLICIES)
def test_it_never_grows_within_the_cooldown_above_the_most_or_unasked(facts: Facts, policy: Policy) -> None:
    verdict = judge(facts, policy)

    if verdict.wanted:
        assert cooling(facts.forest.last_expansion, NOW, policy.cooldown) == timedelta()
        assert 3 <= len(facts.forest.staying) + verdict.wanted <= policy.max_nodes
        assert policy.enabled


@many
@given(loaded(), POLICIES)
def test_it_never_grows_beyond_the_budget(facts: Facts, policy: Policy) -> None:
    verdict = judge(facts, policy)

    if verdict.wanted and policy.budget is not None:
        assert facts.price is not None
        each = facts.price.monthly
        if each:
            cost = sum(forest.price.monthly for forest in facts.recorded.values()) + verdict.wanted * each
            assert float(cost) <= policy.budget


@many
@given(known(), POLICIES)
def test_it_never_grows_while_unhealthy_or_on_what_nobody_measured(facts: Facts, policy: Policy) -> None:
    verdict = judge(facts, policy)

    if verdict.wanted:
        assert facts.forest.status == "active"
        assert not facts.fault
        seen = [each.node for each in facts.vitals if each.reachable and each.loads]
        assert seen == [node.name for node in facts.forest.nodes] != []
        assert verdict.breaches
    for breach in verdict.breaches:
        value = next(each for each in facts.vitals if each.node == breach.node).loads[breach.kind]
        assert value == breach.value > breach.threshold == policy.thresholds[breach.kind]


@many
@given(known(), POLICIES, st.data())
def test_knowing_less_never_lets_a_forest_grow(facts: Facts, policy: Policy, data: st.DataObject) -> None:
    assume(facts.vitals)
    victim = data.draw(st.sampled_from(facts.vitals))
    lost = data.draw(st.sampled_from(Kind))
    blind = replace(victim, loads={kind: value for kind, value in victim.loads.items() if kind != lost})
    less = replace(facts, vitals=[blind if each is victim else each for each in facts.vitals])

    verdict = judge(less, policy)

    if verdict.outcome is Outcome.GROW:
        assert judge(facts, policy).outcome is Outcome.GROW


@many
@given(loaded(), POLICIES, st.data())
def test_what_is_not_known_is_not_fine(facts: Facts, policy: Policy, data: st.DataObject) -> None:
    idle = dict.fromkeys(Kind, 0.5)
    calm = [replace(each, loads=idle) for each in facts.vitals]
    victim = data.draw(st.integers(0, len(calm) - 1))
    lost = data.draw(st.sampled_from(Kind))
    blind = [
        replace(each, loads={kind: 0.5 for kind in idle if k != victim or kind != lost})
        for k, each in enumerate(calm)
    ]

    assert judge(replace(facts, vitals=calm), policy).outcome is Outcome.NOTHING
    assert judge(replace(facts, vitals=blind), policy).outcome is Outcome.UNKNOWN


@many
@given(loaded(), st.sampled_from([5, 20]).map(minutes))
def test_a_load_counts_only_when_readings_without_a_gap_show_it(facts: Facts, span: timedelta) -> None:
    policy = Policy(max_nodes=12, cooldown=minutes(0), sustained=span)

    verdict = judge(facts, policy)

    if verdict.wanted:
        assert any(_shown(facts, breach.kind, policy) for breach in verdict.breaches)


def _shown(facts: Facts, kind: Kind, policy: Policy) -> bool:
    """Whether readings since the last expansion lie around the whole time, each of them above."""
    last = facts.forest.last_expansion
    points = [each for each in (*facts.history, point(facts)) if each.at <= NOW]
    since = [each for each in points if last is None or each.at > last or each.at == NOW]
    begin = max((each.at for each in since if each.at <= NOW - policy.sustained), default=None)
    if begin is None:
        return False
    during = [each for each in since if each.at > begin]
    return all(each.worst.get(kind, 0) > policy.thresholds[kind] for each in during)


@many
@given(known(), POLICIES)
@example(Facts(oak(0), [], NOW), Policy())
def test_every_verdict_says_why_in_one_sentence(facts: Facts, policy: Policy) -> None:
    verdict = judge(facts, policy)

    assert verdict.sentence.endswith(".")
    assert not verdict.sentence.endswith("..")
    assert "\n" not in verdict.sentence
    assert (verdict.outcome is Outcome.MAY_NOT) == bool(verdict.obstacles)
    assert _shape(verdict) in _SHAPES


def _shape(verdict: Verdict) -> tuple[Any, ...]:
    suggests = verdict.suggested > 0
    return (verdict.outcome, suggests, verdict.wanted > 0)


_SHAPES: Sequence[tuple[Any, ...]] = (
    (Outcome.GROW, True, True),
    (Outcome.MAY_NOT, True, False),
    (Outcome.NOTHING, False, False),
    (Outcome.UNHEALTHY, False, False),
    (Outcome.UNKNOWN, False, False),
)
