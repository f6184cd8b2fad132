"""Looking at forests: each for itself, whatever is wrong with the others, and published."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect import get_client

from flows.grow_check import bar, grow_check
from flows.plant import plant
from morpheus.errors import ForestNotFoundError, MachineError
from tests.flows.conftest import Hilly, settle
from tests.flows.hills import Effects, Hills, WatchedStore


@pytest.fixture(scope="module")
def woods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hilly]:
    """Two forests: oak of three nodes, elm of one."""
    root: Path = tmp_path_factory.mktemp("woods")
    effects = Effects()
    hills = Hills(root / "hills", effects)
    store = WatchedStore(hills, effects)
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, root / "data", hills, store)
        plant("oak", nodes=3)
        plant("elm", nodes=1)
        yield Hilly(store, effects, hills)
    hills.raze()


def newest(forest: str) -> Any:
    """The newest artifact of *forest*, read back from Prefect's server."""
    with get_client(sync_client=True) as client:
        found = client.request("GET", "/artifacts/{key}/latest", path_params={"key": f"health-{forest}"})
    return found.json()


def published(forest: str) -> tuple[str, list[dict[str, str]]]:
    """What it says, and its rows."""
    artifact = newest(forest)
    assert artifact["type"] == "table"
    return artifact["description"], json.loads(artifact["data"])


def test_every_forest_is_measured_and_published(woods: Hilly) -> None:
    assert grow_check() == {"elm": True, "oak": True}

    said, rows = published("oak")
    assert "3 of 3 current" in said
    assert [row["node"] for row in rows] == ["node-1", "node-2", "node-3"]
    assert all(row["memory"].endswith("MiB") and row["state"].startswith("current") for row in rows)
    assert sum("(leader)" in row["state"] for row in rows) == 1
    assert published("elm")[0] == "**elm**: 1 of 1 current"


def test_one_forest_alone_can_be_looked_at(woods: Hilly) -> None:
    assert grow_check("elm") == {"elm": True}


def test_an_unknown_forest_fails_and_lists_those_there_are(woods: Hilly) -> None:
    with pytest.raises(ForestNotFoundError, match="elm, oak"):
        grow_check("yew")


def test_a_forest_that_cannot_be_asked_keeps_nobody_from_the_others(woods: Hilly) -> None:
    """The first, elm, fails, and so does the run; oak is looked at all the same."""
    grow_check("oak")
    before = newest("oak")["updated"]
    broken = woods.effects.failing("reach elm-*", MachineError("no way there"))
    with broken, pytest.raises(MachineError, match="no way there"):
        grow_check()

    assert newest("oak")["updated"] != before
    assert "3 of 3 current" in published("oak")[0]


def test_a_dead_server_is_published_as_unknown_and_not_as_zero(woods: Hilly) -> None:
    pid = woods.hills.pids("oak")["oak-node-2"]
    assert pid
    server = psutil.Process(pid)
    server.kill()
    psutil.wait_procs([server], timeout=10)

    assert grow_check()["oak"] is False

    _, rows = published("oak")
    assert rows[1]["cpu"] == "unknown"
    assert rows[1]["state"].startswith("unreachable")


@pytest.mark.parametrize(
    ("percent", "drawn"),
    [(0, "░░░░░░░░░░ 0%"), (45, "████░░░░░░ 45%"), (100, "██████████ 100%"), (250, "██████████ 250%")],
)
def test_bars(percent: float, drawn: str) -> None:
    assert bar(percent) == drawn
