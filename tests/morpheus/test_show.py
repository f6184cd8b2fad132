"""What commands print, whatever others wrote into the registry."""

import json
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from morpheus.cli import show
from morpheus.cli.connecting import Connection
from morpheus.cli.show.forests import healing
from morpheus.cli.show.text import me
from morpheus.forest import Forest, Lease, Migration, Node, Price
from morpheus.health import Health, NodeHealth
from morpheus.nats.cluster import Formation
from morpheus.nats.monitor import Reading
from morpheus.registry import Registry
from morpheus.site import Found
from tests.fakes import MemoryStore

ODD = "\x1b[2J\ud800\u202eleaf\n  gone"
ESCAPED = r"\x1b[2J\ud800\u202eleaf\n  gone"
OAK = Forest("oak" + ODD, provider=ODD, size=ODD, status=ODD, nodes=(Node(ODD, ODD, status=ODD),))


def test_what_could_steer_the_terminal_is_listed_as_an_escape(capsys: pytest.CaptureFixture[str]) -> None:
    show.forests([Found(OAK, Registry(MemoryStore()), "")], ["file:///" + ODD], json=False)

    out = capsys.readouterr().out
    assert len(out.splitlines()) == 5
    assert out.count(ESCAPED) == 5
    assert out.replace("\n", "").isprintable()


def test_what_could_steer_the_terminal_is_an_escape_in_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    formation = Formation(False, ODD, {ODD: ODD})
    health = Health(OAK, formation, (NodeHealth(OAK.nodes[0], ODD, Reading(error=ODD), None, None),))

    show.health(health, ODD, json=False)

    out = capsys.readouterr().out
    assert out.count(ESCAPED) == 8
    assert out.replace("\n", "").isprintable()


def test_a_forest_whose_streams_are_on_their_way_is_not_sent_to_plant() -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    moving = Forest("oak", "local", migration=Migration("committed", "a-run", "oak-node-1", "beside", began))

    assert healing(moving) == f"To finish its move into a cluster: {me()} grow oak"

    now = datetime.now(UTC)
    lease = Lease("grow", "a-run", "eve@laptop", began, now + timedelta(minutes=1))
    held = replace(moving, lease=lease)
    assert healing(held) == "eve@laptop is at it (grow, since 00:00:00 UTC): wait for its end."
    over = replace(lease, expires=now - timedelta(seconds=1))
    assert healing(replace(moving, lease=over)) == healing(moving)


def test_json_says_what_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    show.forests([Found(OAK, Registry(MemoryStore()), "")], [], json=True)

    assert json.loads(capsys.readouterr().out)["forests"][0]["status"] == ODD


def test_a_shell_runs_nothing_of_what_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    url = "nats://$(touch it):4222; touch it"

    show.connection(Connection("oak", Path("oak.json"), {"NATS_URL": url}), json=False)

    assert shlex.split(capsys.readouterr().out) == ["export", f"NATS_URL={url}"]


def test_tables_and_trees_look_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    show.forests([Found(Forest("ärger-🌲"), Registry(MemoryStore()), "")], ["memory:///x"], json=False)

    assert capsys.readouterr().out.splitlines() == [
        "",
        "  FOREST   PROVIDER  SIZE  NODES  STATUS  CREATED (UTC)",
        "  ärger-🌲  -         -     0      active  -",
        "",
        "Registry: memory:///x",
    ]


def test_what_forests_cost_is_shown_where_some_is_paid(capsys: pytest.CaptureFixture[str]) -> None:
    price = Price(Decimal("0.0061"), Decimal("3.92")).metadata
    elm = Forest("elm", nodes=tuple(Node(f"elm-node-{k}", metadata=price) for k in (1, 2, 3)))
    show.forests([Found(each, Registry(MemoryStore()), "") for each in (elm, Forest("oak"))], [], json=False)

    assert capsys.readouterr().out.splitlines()[1:] == [
        "  FOREST  PROVIDER  SIZE  NODES  STATUS  CREATED (UTC)  EUR/MONTH",
        "  elm     -         -     3      active  -              11.76",
        "  oak     -         -     0      active  -              -",
        "",
        "The forests cost: EUR 0.0183/h, 11.76/month, VAT included",
    ]


def test_json_says_where_each_node_is_and_what_it_costs(capsys: pytest.CaptureFixture[str]) -> None:
    price = Price(Decimal("0.0061"), Decimal("3.92")).metadata
    there = Node("elm-node-1", metadata={"location": "fsn1", "server_type": "cx23", **price})
    elm = Forest("elm", nodes=(there, Node("elm-node-2")))

    show.forests([Found(elm, Registry(MemoryStore()), "")], [], json=True)

    nodes = json.loads(capsys.readouterr().out)["forests"][0]["nodes"]
    assert [(each["location"], each["type"], each["price"]) for each in nodes] == [
        ("fsn1", "cx23", {"hourly": 0.0061, "monthly": 3.92}),
        (None, None, None),
    ]
