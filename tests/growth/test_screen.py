"""What a check prints: the whole screen for people, and JSON of one shape for scripts."""

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from morpheus.checkup import Checkup
from morpheus.cli import growing, show
from morpheus.cli.show.growth import amount
from morpheus.cli.show.text import me
from morpheus.forest import Status
from morpheus.growth import Facts, Policy, Vitals, judge
from morpheus.health import Health
from morpheus.nats.cluster import Formation
from morpheus.trend import Kind
from tests.growth import schema
from tests.growth.sample import NOW, POLICY, facts, minutes, oak, readings, vitals

DOCS = Path(__file__).parents[2] / "docs" / "grow.md"


def checked(known: Facts, policy: Policy = POLICY) -> Checkup:
    health = Health(known.forest, Formation(True, "", {}), ())
    return Checkup(health, known, policy, judge(known, policy), "https://box/registry.json")


def busy(each: Vitals, *, connections: int, **more: Any) -> Vitals:
    given = {"messages_in": 400_000, "messages_out": 1_133_400, "rate_in": 1200.4, "rate_out": 3400.0}
    return replace(each, connections=connections, **{**given, **more})


HOT = facts(
    oak(),
    busy(vitals(1, cpu=42.4, memory=61.0), connections=12),
    busy(vitals(2, cpu=35.0, memory=81.2), connections=20),
    busy(vitals(3, cpu=12.0, memory=40.0), connections=13),
)


def test_the_whole_screen_of_a_forest_that_needs_a_node() -> None:
    assert show.growth_screen(checked(HOT)).splitlines() == [
        "🌲 Forest: oak",
        "Nodes: 3/3 healthy",
        "Connections: 45 active",
        "Messages: 1.2M in, 3.4M out (3.6K/s in, 10.2K/s out)",
        "",
        "CPU     ██████░░░░░░░░░░░░░░ 30%",
        "Memory  ████████████░░░░░░░░ 61%  !",
        "",
        "  NODE    IP        CPU  MEM  CONNS",
        "  node-1  10.0.0.1  42%  61%  12",
        "  node-2  10.0.0.2  35%  81%  20     !",
        "  node-3  10.0.0.3  12%  40%  13",
        "",
        "Memory above 80% on node-2",
        "Suggestion: Add 1 node(s)",
        "Costs: EUR 0.0061/h, 3.92/month, VAT included",
    ]


def test_the_screen_says_what_stands_in_the_way() -> None:
    policy = replace(POLICY, enabled=False, max_nodes=3)

    assert show.growth_screen(checked(HOT, policy)).splitlines()[-5:] == [
        "Memory above 80% on node-2",
        "Suggestion: Add 1 node(s)",
        "Costs: EUR 0.0061/h, 3.92/month, VAT included",
        "But it would have 4 nodes, and growth.max_nodes is 3",
        "But growth is disabled",
    ]


def test_the_screen_of_a_forest_with_a_node_away_shows_it_as_unknown() -> None:
    away = Vitals("oak-node-3", "unreachable (no answer within 2 s)", reachable=False)
    known = facts(oak(), busy(vitals(1, cpu=10), connections=4), busy(vitals(2, cpu=20), connections=5), away)

    assert show.growth_screen(checked(known)).splitlines() == [
        "🌲 Forest: oak",
        "Nodes: 2/3 healthy",
        "Connections: 9 active",
        "Messages: 800.0K in, 2.3M out (2.4K/s in, 6.8K/s out)",
        "",
        "CPU     ███░░░░░░░░░░░░░░░░░ 15%",
        "Memory  ██░░░░░░░░░░░░░░░░░░ 10%",
        "",
        "  NODE    IP        CPU  MEM  CONNS",
        "  node-1  10.0.0.1  10%  10%  4",
        "  node-2  10.0.0.2  20%  10%  5",
        "  node-3  10.0.0.3  -    -    -",
        "",
        "It does not grow while it is unhealthy: node-3 is unreachable (no answer within 2 s).",
        f"To heal it: {me()} plant cloud --name oak",
    ]


def test_the_screen_of_a_forest_that_nobody_could_look_into() -> None:
    blind = [Vitals("oak-node-1", "running")]

    said = show.growth_screen(checked(facts(oak(1), *blind, unread="The key is not here."))).splitlines()

    assert said[1:4] == ["Nodes: -/1 healthy", "Connections: - active", "Messages: - in, - out"]
    assert said[-1] == "Whether it needs nodes is not known: The key is not here."


def test_the_screen_sees_a_full_store_and_slow_consumers_coming() -> None:
    history = readings([float(k) for k in range(30, 60)], kind=Kind.STORAGE)
    slow = replace(vitals(1, storage=60), slow_consumers=3, slow_consumers_growing=True)

    assert show.growth_screen(checked(facts(oak(), slow, history=history))).splitlines()[-4:] == [
        "Slow consumers become more on node-1",
        "Storage reaches 80% in about 100 min, if it goes on like this",
        "Storage is full in about 3 hours, if it goes on like this",
        "It needs no more nodes: all 3 nodes are below every threshold.",
    ]


def test_nothing_that_others_wrote_steers_the_terminal() -> None:
    odd = "\x1b[2J\u202e\n"
    away = Vitals("oak-node-3", f"unreachable ({odd})", reachable=False)

    assert show.growth_screen(checked(facts(oak(), away))).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (None, "-"),
        (0, "0"),
        (0.4, "0"),
        (45, "45"),
        (999, "999"),
        (999.6, "1.0K"),
        (1_200, "1.2K"),
        (999_949, "999.9K"),
        (999_950, "1.0M"),
        (3_400_000, "3.4M"),
        (5e9, "5.0G"),
        (7e12, "7.0T"),
    ],
)
def test_numbers_are_told_as_people_say_them(number: float | None, said: str) -> None:
    assert amount(number) == said


# JSON


def told(known: Facts, policy: Policy, capsys: pytest.CaptureFixture[str]) -> schema.Check:
    show.grown(checked(known, policy), None, json=True)
    return schema.Check.model_validate_json(capsys.readouterr().out)


def test_json_holds_all_that_the_screen_shows(capsys: pytest.CaptureFixture[str]) -> None:
    seen = told(HOT, POLICY, capsys)

    assert (seen.outcome, seen.wanted, seen.suggested, seen.why) == ("grow", 1, 1, None)
    assert (seen.checked_at, seen.registry) == (NOW, "https://box/registry.json")
    assert seen.sentence == "It needs 1 more node(s): Memory above 80% on node-2."
    breach = schema.Breach(node="oak-node-2", kind="memory", percent=81.2, threshold=80)
    assert seen.breaches == [breach]
    assert seen.price == schema.Price(hourly=0.0061, monthly=3.92)
    node = seen.nodes[1]
    assert (node.name, node.ip, node.memory_percent, node.messages_in_per_second) == (
        *("oak-node-2", "10.0.0.2"),
        *(81.2, 1200.4),
    )


def test_json_tells_what_is_not_known_as_null(capsys: pytest.CaptureFixture[str]) -> None:
    away = Vitals("oak-node-3", "unreachable (gone)", reachable=False)

    seen = told(facts(oak(), away), POLICY, capsys)

    assert (seen.outcome, seen.nodes[2].cpu_percent, seen.nodes[2].connections) == ("unhealthy", None, None)


def test_json_tells_obstacles_forecasts_and_the_last_expansion(capsys: pytest.CaptureFixture[str]) -> None:
    history = readings([float(k) for k in range(30, 60)], kind=Kind.STORAGE)
    grown = oak(last_expansion=NOW - minutes(1000))
    known = facts(grown, vitals(1, storage=60, cpu=99), history=history)

    seen = told(known, replace(POLICY, enabled=False), capsys)

    assert (seen.outcome, seen.why, seen.wanted, seen.suggested) == ("may-not", "disabled", 0, 1)
    assert seen.obstacles == [schema.Obstacle(why="disabled", words="growth is disabled")]
    assert [(each.kind, each.percent, each.at) for each in seen.forecasts] == [
        ("storage", 80, NOW + minutes(100)),
        ("storage", 100, NOW + minutes(200)),
    ]
    assert seen.last_expansion == NOW - minutes(1000)
    assert seen.thresholds.storage_percent == 80


def test_looks_one_after_the_other_are_json_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    last = show.growth_watched(iter([checked(HOT), checked(facts(oak()))]), json=True)

    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["grow", "nothing"]
    assert last.verdict.wanted == 0


def _fields(part: type[BaseModel]) -> Iterable[str]:
    for name, field in part.model_fields.items():
        yield name
        for inner in re.findall(r"schema\.(\w+)", str(field.annotation)):
            yield from _fields(getattr(schema, inner))


def test_the_documentation_names_every_field_and_outcome() -> None:
    text = DOCS.read_text()
    words = {*_fields(schema.Check), *schema.Check.model_fields["outcome"].annotation.__args__}  # type: ignore[union-attr]

    assert [word for word in sorted(words) if f"`{word}`" not in text] == []


# What a person is asked


@pytest.mark.parametrize(
    ("status", "question"),
    [
        (Status.PROVISIONING, "Its expansion was interrupted. Go on with it?"),
        (Status.DELETING, "An expansion failed, and was not all taken back (node-4). Finish that?"),
    ],
)
def test_who_is_asked_knows_whether_nodes_come_or_go(status: Status, question: str) -> None:
    last = replace(oak(4).nodes[3], status=status)
    forest = replace(oak(4).with_nodes(last), status=Status.GROWING)

    assert growing._question(checked(facts(forest)), len(forest.staying)) == question
