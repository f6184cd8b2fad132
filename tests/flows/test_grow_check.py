"""Checking forests: each for itself, whatever is wrong with others; judged, kept, published, announced."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient

from flows import _growth
from flows.grow import grow
from flows.grow_check import grow_check
from flows.plant import plant
from flows.teardown import teardown
from morpheus import site, vitals
from morpheus.bars import bar
from morpheus.errors import ForestNotFoundError, MachineError, StoreBusyError
from morpheus.forest import Forest
from morpheus.history import History
from morpheus.trend import Point
from tests.flows.conftest import Hilly, settle
from tests.flows.hills import Effects, Hills, WatchedStore
from tests.flows.homes import UNMOVED
from tests.growth.load import burning
from tests.nats.grove import wait_for


@pytest.fixture(scope="module")
def woods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hilly]:
    """Two forests: oak of three nodes, elm of one."""
    root: Path = tmp_path_factory.mktemp("woods")
    effects = Effects()
    hills = Hills(root / "hills", effects)
    store = WatchedStore(hills, effects)
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, root / "data", hills, store)
        patch.setenv("MORPHEUS_CONFIG", str(root / "morpheus.yaml"))
        patch.setattr(vitals, "WINDOW", 0.3)
        configure(root)
        plant("oak", nodes=3)
        plant("elm", nodes=1)
        yield Hilly(store, effects, hills)
    hills.raze()


def configure(root: Path, **growth: Any) -> None:
    (root / "morpheus.yaml").write_text(json.dumps({"growth": {**UNMOVED, **growth}}))


@pytest.fixture
def growth(woods: Hilly, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Changes the settings of growth for one test."""
    root = woods.hills._root.parent
    yield lambda **given: configure(root, **given)
    configure(root)


def newest(key: str) -> Any:
    """The newest artifact of that key, read back from Prefect's server."""
    with get_client(sync_client=True) as client:
        found = client.request("GET", "/artifacts/{key}/latest", path_params={"key": key})
    return found.json()


def published(forest: str) -> tuple[str, list[dict[str, str]]]:
    """What is said of the forest, and its rows."""
    artifact = newest(f"health-{forest}")
    assert artifact["type"] == "table"
    return artifact["description"], json.loads(artifact["data"])


def readings(woods: Hilly, forest: str) -> tuple[Point, ...]:
    return History(woods.store.place, woods.forest(forest)).read()


def announced(forest: str, count: int) -> list[dict[str, Any]]:
    """The events of the forest, newest first, once the server has *count* of them."""
    return wait_for(lambda: events(forest), lambda seen: len(seen) >= count)


def events(forest: str) -> list[dict[str, Any]]:
    """Those that the server has, newest first."""
    wanted = {"filter": {"resource": {"id": [f"morpheus.forest.{forest}"]}}, "limit": 50}
    with get_client(sync_client=True) as client:
        assert isinstance(client, SyncPrefectClient)
        found: list[dict[str, Any]] = client.request("POST", "/events/filter", json=wanted).json()["events"]
    return found


def test_every_forest_is_measured_judged_and_published(woods: Hilly) -> None:
    assert grow_check() == {"elm": "nothing", "oak": "nothing"}

    said, rows = published("oak")
    assert said == "**oak**: It needs no more nodes: all 3 nodes are below every threshold."
    assert [row["node"] for row in rows] == ["node-1", "node-2", "node-3"]
    assert all(row["state"].startswith("current") for row in rows)
    assert sum("(leader)" in row["state"] for row in rows) == 1
    for kind in ("CPU", "Memory", "JetStream memory", "Storage", "Disk"):
        assert all(row[kind].endswith("%") for row in rows)
    assert all(row["messages/s in"].isdecimal() for row in rows)
    assert published("elm")[0] == "**elm**: It needs no more nodes: it is below every threshold."


def test_each_check_keeps_its_reading_and_the_history_is_published(woods: Hilly) -> None:
    before = len(readings(woods, "oak"))

    grow_check("oak")
    grow_check("oak")

    kept = readings(woods, "oak")
    assert len(kept) == before + 2
    assert kept[-1].nodes == 3
    text = newest("growth-oak")["data"]
    assert text.startswith("# oak: nothing\n")
    assert text.count(f"| {kept[-1].at:%Y-%m-%d %H:%M}") >= 1
    assert "| CPU | " in text


def test_load_is_a_verdict_an_event_and_no_growth_that_nobody_allowed(woods: Hilly, growth: Any) -> None:
    growth(threshold_cpu=40, enabled=False)
    with burning():
        assert grow_check("oak") == {"oak": "may-not"}

    said, _ = published("oak")
    assert "CPU above 40% on node-1" in said
    assert said.endswith("but growth is disabled.")
    event = wait_for(lambda: events("oak"), lambda seen: any("may-not" in each["event"] for each in seen))[0]
    assert event["event"] == "morpheus.growth.may-not"
    assert event["payload"]["why"] == "disabled"
    assert (event["payload"]["wanted"], event["payload"]["suggested"]) == (0, 1)
    assert len(woods.forest("oak").nodes) == 3


def test_a_loaded_forest_grows_by_itself_once_and_rests(land: Hilly, growth: Any) -> None:
    plant("yew", nodes=3)
    growth(threshold_cpu=40)
    with burning():
        assert grow_check("yew") == {"yew": "grew"}
        assert grow_check("yew") == {"yew": "may-not"}

    forest = land.forest("yew")
    assert [node.name for node in forest.nodes] == [f"yew-node-{k}" for k in (1, 2, 3, 4)]
    assert forest.status == "active"
    assert [each["event"] for each in announced("yew", 2)] == [
        "morpheus.growth.may-not",
        "morpheus.growth.grow",
    ]


def test_an_expansion_that_was_interrupted_is_finished_by_the_next_check(land: Hilly, growth: Any) -> None:
    plant("fir", nodes=3)
    dying = land.effects.failing("start fir-node-4 *", RuntimeError("the process died"))
    with dying, pytest.raises(RuntimeError, match="died"):
        grow("fir", keep=True)
    assert land.forest("fir").status == "growing"

    assert grow_check("fir") == {"fir": "grew"}

    forest = land.forest("fir")
    assert (forest.status, len(forest.nodes)) == ("active", 4)


def test_one_forest_alone_can_be_looked_at(woods: Hilly) -> None:
    assert grow_check("elm") == {"elm": "nothing"}


def test_an_unknown_forest_fails_and_lists_those_there_are(woods: Hilly) -> None:
    with pytest.raises(ForestNotFoundError, match="elm, oak"):
        grow_check("yew")


def test_a_forest_that_cannot_be_asked_keeps_nobody_from_the_others(woods: Hilly) -> None:
    """The first, elm, fails, and so does the run; oak is looked at all the same."""
    grow_check("oak")
    before = newest("health-oak")["updated"]
    broken = woods.effects.failing("reach elm-*", MachineError("no way there"))
    with broken, pytest.raises(MachineError, match=r"1 went wrong: elm: no way there\."):
        grow_check()

    assert newest("health-oak")["updated"] != before
    assert "below every threshold" in published("oak")[0]


def test_all_that_failed_are_named_whatever_they_failed_with(woods: Hilly) -> None:
    """A fault of ours in one of them is no reason to leave out the rest."""
    told = pytest.raises(MachineError, match=r"2 went wrong: elm: no way; oak: a fault\.")
    failing = woods.effects.failing
    with failing("reach elm-*", MachineError("no way")), failing("reach oak-*", ValueError("a fault")), told:
        grow_check()


def test_a_registry_that_gives_no_answer_keeps_nobody_from_the_rest(
    woods: Hilly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forests of this machine stand in another one."""
    plant("ash", nodes=1, cloud="local")
    try:
        with monkeypatch.context() as patch:

            def silent() -> None:
                raise StoreBusyError("It gives no answer.")

            patch.setattr(woods.store, "read", silent)
            with pytest.raises(MachineError, match=r"1 went wrong: a registry .*no answer"):
                grow_check()
        assert "below every threshold" in published("ash")[0]
        assert [each.nodes for each in History(site.local_place(), _local("ash")).read()] == [1]
    finally:
        teardown("ash")


def _local(name: str) -> Forest:
    forest = site.local_registry().find(name)
    assert forest
    return forest


def test_a_history_that_is_broken_stops_no_check(woods: Hilly) -> None:
    woods.store.place("readings/oak").put("no JSON")

    assert grow_check("oak") == {"oak": "nothing"}

    assert len(readings(woods, "oak")) == 1


def test_what_cannot_be_shown_changes_no_verdict(woods: Hilly, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("Prefect's server says no")

    monkeypatch.setattr(_growth, "create_table_artifact", refuse)

    assert grow_check("oak") == {"oak": "nothing"}


def test_a_dead_server_is_published_as_unknown_and_not_as_zero(woods: Hilly) -> None:
    pid = woods.hills.pids("oak")["oak-node-2"]
    assert pid
    server = psutil.Process(pid)
    server.kill()
    psutil.wait_procs([server], timeout=10)
    before = len(readings(woods, "oak"))

    assert grow_check()["oak"] == "unhealthy"

    _, rows = published("oak")
    assert rows[1]["CPU"] == rows[1]["connections"] == "unknown"
    assert rows[1]["state"].startswith("unreachable")
    assert len(readings(woods, "oak")) == before


@pytest.mark.parametrize(
    ("percent", "drawn"),
    [(0, "░░░░░░░░░░ 0%"), (45, "████░░░░░░ 45%"), (100, "██████████ 100%"), (250, "██████████ 250%")],
)
def test_bars(percent: float, drawn: str) -> None:
    assert bar(percent) == drawn


def test_the_course_of_a_load_is_a_line_of_little_bars() -> None:
    assert _growth.line([0, 50, None, 99, 100, 120]) == "▁▄·▇██"
