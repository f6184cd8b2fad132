"""``morpheus grow --dry-run`` on real servers: what it prints, how it ends, and that it changes nothing."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from morpheus import site, vitals
from morpheus.cli import asking
from morpheus.cli.app import app
from morpheus.forest import Forest, Node, Status
from morpheus.history import History
from morpheus.registry import Registry
from tests.growth import schema
from tests.growth.load import burning
from tests.nats.grove import Grove, standing
from tests.terminal import Terminal


@pytest.fixture(scope="module")
def grove(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grove]:
    """Three nodes, recorded as this user's."""
    with standing(tmp_path_factory.mktemp("home"), 1, 2, 3) as grove:
        active = (
            Node(each.name, each.ip, Status.ACTIVE, metadata=each.metadata) for each in grove.forest.nodes
        )
        grove.forest = grove.forest.with_nodes(*active)
        site.local_registry(grove.folder).update(lambda document, _: document.with_forest(grove.forest))
        yield grove


@pytest.fixture(autouse=True)
def home(grove: Grove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings of this user, of which the load of this computer alone makes no forest grow."""
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(grove.folder))
    monkeypatch.setenv("MORPHEUS_CONFIG", str(tmp_path / "morpheus.yaml"))
    monkeypatch.setattr(vitals, "WINDOW", 0.3)
    return settle(tmp_path)


def settle(folder: Path, **more: object) -> Path:
    growth = {"threshold_cpu": 100, "threshold_memory": 100, "threshold_storage": 100, **more}
    path = folder / "morpheus.yaml"
    path.write_text(json.dumps({"growth": growth}))
    return path


def grow(*words: str) -> Result:
    return CliRunner().invoke(app, ["grow", *words])


def told(*words: str) -> schema.Check:
    return schema.Check.model_validate_json(grow("oak", "--dry-run", "--output", "json", *words).stdout)


def test_a_forest_that_needs_nothing_ends_with_0(grove: Grove) -> None:
    done = grow("oak", "--dry-run")

    assert done.exit_code == 0, done.output
    said = done.stdout.splitlines()
    assert said[:2] == ["🌲 Forest: oak", "Nodes: 3/3 healthy"]
    assert said[-1] == "It needs no more nodes: all 3 nodes are below every threshold."
    assert grow("--dry-run").exit_code == 0  # the only one is meant


def test_the_load_of_this_computer_is_shown_and_more_of_its_nodes_are_no_help(grove: Grove) -> None:
    before = site.local_registry().read()

    with burning():
        done = grow("oak", "--dry-run", "--threshold", "40")

    assert done.exit_code == 11, done.output
    assert "CPU above 40% on node-2" in done.stdout
    assert "But its nodes share this computer, and more of them take no load from it" in done.stdout
    assert site.local_registry().read() == before
    assert History(site.local_place(), grove.forest).read() == ()


def test_one_threshold_takes_the_place_of_all(tmp_path: Path) -> None:
    seen = told("--threshold", "1")

    assert seen.thresholds.model_dump() == dict.fromkeys(schema.Loads.model_fields, 1)
    assert "memory" in {each.kind for each in seen.breaches}
    assert seen.registry.startswith("file://")


@pytest.mark.parametrize("threshold", ["0", "101", "much"])
def test_a_threshold_that_cannot_be_is_refused(threshold: str) -> None:
    assert grow("oak", "--dry-run", "--threshold", threshold).exit_code == 2


def test_what_may_not_grow_ends_with_11_and_says_why(home: Path) -> None:
    settle(home.parent, enabled=False)
    done = grow("oak", "--dry-run", "--threshold", "1")

    assert done.exit_code == 11
    assert done.stdout.splitlines()[-1] == "But growth is disabled"

    settle(home.parent, max_nodes=3)
    assert told("--threshold", "1").why == "max-nodes"


def test_a_load_counts_once_the_readings_of_several_runs_show_it_for_so_long(
    grove: Grove, home: Path
) -> None:
    """Growth is disabled, so that nothing grows when it would; memory is always above one percent."""
    settle(home.parent, enabled=False, sustained_minutes=0.05)
    kept = History(site.local_place(), grove.forest)
    words = ("oak", "--auto", "--threshold", "1", "--output", "json")
    whys: list[str] = []
    began = time.monotonic()
    try:
        while "disabled" not in whys and time.monotonic() < began + 30:
            obstacles = {each["why"] for each in json.loads(grow(*words).stdout)["obstacles"]}
            whys.append("not-sustained" if "not-sustained" in obstacles else "disabled")
            assert "disabled" in obstacles
        took, readings = time.monotonic() - began, kept.read()
        told("--threshold", "1")  # a dry run keeps none
        assert kept.read() == readings
    finally:
        kept.delete()

    assert whys == ["not-sustained"] * (len(whys) - 1) + ["disabled"]
    assert len(readings) == len(whys) > 2
    assert took >= 3


def test_an_unhealthy_forest_ends_with_7(grove: Grove) -> None:
    leader = grove.verdict().leader
    victim = next(name for name in grove.names if name != leader)
    grove.kill(victim)
    try:
        done = grow("oak", "--dry-run", "--threshold", "1")
    finally:
        grove.start([victim])
        grove.wait_formed()

    assert done.exit_code == 7
    assert "Nodes: 2/3 healthy" in done.stdout
    assert f"It does not grow while it is unhealthy: {grove.node(victim).label} is unreachable" in done.stdout


def test_an_unknown_forest_ends_with_3() -> None:
    done = grow("yew", "--dry-run")

    assert done.exit_code == 3
    assert "The forests are: oak." in done.stderr


@pytest.fixture
def another() -> Iterator[Registry]:
    """A second forest in the registry, without nodes."""
    registry = site.local_registry()
    registry.update(lambda document, _: document.with_forest(Forest("elm", "local")))
    yield registry
    registry.update(lambda document, _: document.without_forest("elm"))


@pytest.mark.parametrize("nodes", ["2", "3"])
def test_as_many_as_there_are_or_fewer_is_no_growth(nodes: str) -> None:
    done = grow("oak", "--nodes", nodes)

    assert done.exit_code == 2
    assert "oak has 3 node(s), and growing only adds some" in done.stderr
    assert "node remove" not in done.stderr  # three stay


def test_without_a_name_and_a_terminal_the_names_are_listed(another: Registry) -> None:
    done = grow("--dry-run")

    assert done.exit_code == 2
    assert "Say which forest. The forests are: elm, oak." in done.stderr


def test_at_a_terminal_it_is_asked(another: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "somebody_is_here", lambda: True)

    done = CliRunner().invoke(app, ["grow", "--dry-run"], input="ash\noak\n")

    assert "🌲 Forest: oak" in done.stdout
    assert done.exit_code == 0


def test_who_ends_it_at_the_question_is_told_that_nothing_was_changed(grove: Grove) -> None:
    before = site.local_registry().read()

    terminal = Terminal("grow", "oak", "--nodes", "4")
    terminal.expect("Add 1 node(s)? [y/N] ")
    terminal.signal(signal.SIGINT)

    assert terminal.end() == 130
    assert terminal.shown.rstrip().endswith("morpheus: Interrupted. Nothing was changed.")
    assert site.local_registry().read() == before


def test_a_dry_run_never_imports_prefect() -> None:
    script = "import sys; from morpheus.cli import main; sys.argv[1:] = ['grow', 'oak', '--dry-run']\n"
    script += "try: main()\nexcept SystemExit as end: sys.exit(99 if 'prefect' in sys.modules else end.code)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
