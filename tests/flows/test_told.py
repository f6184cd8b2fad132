"""What a plant on machines tells: beforehand its steps, afterwards its phases, its artifact, its health."""

import json
import re
from typing import Any

import pytest
from prefect import get_client
from typer.testing import CliRunner

from flows.grow_check import grow_check
from flows.plant import Planted, plant
from morpheus import kept
from morpheus.cli.app import app
from morpheus.plan import Verb
from morpheus.wait import wait_until
from tests.flows.homes import Home

pytestmark = pytest.mark.long

# How the tasks are called that do the steps of a dry run.
TASKS: dict[str, str] = {
    Verb.SEAL: "secrets-",
    Verb.CREATE: "ensure-",
    Verb.ENTER: "enter-",
    Verb.INSTALL: "install-",
    Verb.ADMIT: "admit-",
    Verb.OWN_KEY: "take-host-key-",
    Verb.CONFIGURE: "configure-",
    Verb.START: "start-",
    Verb.VERIFY: "verify-",
}


def told(*words: str) -> Any:
    done = CliRunner().invoke(app, [*words, "--output", "json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def tasks() -> list[str]:
    """The names of all task runs there are."""
    with get_client(sync_client=True) as there:
        names: list[str] = []
        while True:
            query = {"limit": 200, "offset": len(names), "sort": "EXPECTED_START_TIME_ASC"}
            page = there.request("POST", "/task_runs/filter", json=query).json()
            names += [run["name"] for run in page]
            if len(page) < 200:
                return names


def artifact(forest: str) -> str:
    with get_client(sync_client=True) as there:
        found = there.request("GET", "/artifacts/{key}/latest", path_params={"key": f"forest-{forest}"})
    return str(found.json()["data"])


@pytest.fixture
def steps(home: Home) -> list[dict[str, str]]:
    """What a dry run told, before anything was there."""
    return list(told("plant", "cloud", "medium", "--name", "yew", "--dry-run")["steps"])


@pytest.fixture
def planted(home: Home, steps: list[dict[str, str]]) -> Planted:
    return plant("yew", nodes=3)


def test_what_a_dry_run_tells_is_what_is_done(steps: list[dict[str, str]], planted: Planted) -> None:
    told = {f"{TASKS[step['verb']]}{step['subject']}" for step in steps if step["verb"] in TASKS}

    ran = wait_until(  # the server hears of them a moment later
        "the tasks of the run",
        lambda: {name for name in tasks() if re.match(f"({'|'.join(TASKS.values())})yew", name)},
        lambda seen: told <= seen,
        str,
        timeout=30,
        interval=0.1,
    )
    assert ran == told


def test_the_phases_follow_each_other_and_stand_in_the_artifact(planted: Planted) -> None:
    phases = ["reserved", "created", "recorded", "entered", "equipped", "configured", "started", "verified"]
    assert list(planted.phases) == [*phases, "active"]
    assert list(planted.phases.values()) == sorted(planted.phases.values())
    assert planted.phases["active"] <= planted.seconds

    text = artifact("yew")
    assert all(f"| {phase} |" in text for phase in planted.phases)
    assert all(f"`{node.ip}`" in text for node in planted.forest.nodes)
    assert "EUR" in text


def test_status_reads_machines_with_the_key_and_says_what_it_cannot_read_without(
    home: Home, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_key = told("status", "yew")
    assert with_key["unread"] is None
    assert [node["state"] for node in with_key["nodes"]] == ["current"] * 3
    assert grow_check("yew") == {"yew": "nothing"}

    kept.path(home.folder / "data").unlink()

    without = told("status", "yew")
    assert "is not on this device" in without["unread"]
    assert [node["state"] for node in without["nodes"]] == ["running"] * 3
    assert [node["memory_bytes"] for node in without["nodes"]] == [None] * 3
    assert grow_check("yew") == {"yew": "unknown"}
