"""``morpheus grow --discard-old-store``: what it asks and refuses, and where an old store is told of."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner, Result

from morpheus import site
from morpheus.cli import show
from morpheus.cli.app import app
from morpheus.forest import Forest, Migration, Node, Status
from morpheus.health import Health, machines_only
from morpheus.migration import Phase
from tests.terminal import Terminal

BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)
UNTIL = BEGAN + timedelta(days=7)
LINE = "Its old store is kept on node-1 until 2026-01-08 12:00 UTC; to remove it now: {}"


def oak(phase: str | None = Phase.KEPT, status: str = Status.ACTIVE) -> Forest:
    nodes = tuple(Node(f"oak-node-{k}", "127.0.0.1", Status.ACTIVE) for k in (1, 2, 3))
    moved = Migration(phase, "run", "oak-node-1", "beside", BEGAN, 3 * 2**20, UNTIL) if phase else None
    return Forest("oak", "local", status=status, nodes=nodes, migration=moved)


@pytest.fixture
def recorded(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> Callable[[Forest], None]:
    """Records a forest of this user's, of which nothing runs."""
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path))

    def record(forest: Forest) -> None:
        site.local_registry().update(lambda document, _: document.with_forest(forest))

    return record


def grow(*words: str) -> Result:
    return CliRunner().invoke(app, ["grow", *words])


@pytest.mark.parametrize("words", [(), ("--yes",)])
def test_where_there_is_none_nothing_is_asked(
    recorded: Callable[[Forest], None], words: tuple[str, ...]
) -> None:
    recorded(oak(None))

    done = grow("oak", "--discard-old-store", *words)

    assert (done.exit_code, done.stdout) == (0, "oak has no old store: there is nothing to discard.\n")


def test_without_a_terminal_it_is_told_what_to_run(recorded: Callable[[Forest], None]) -> None:
    recorded(oak())

    done = grow("oak", "--discard-old-store")

    assert done.exit_code == 2
    assert "Nobody is here to confirm it: morpheus grow oak --discard-old-store --yes" in done.stderr


def test_at_a_terminal_the_name_has_to_be_typed(recorded: Callable[[Forest], None]) -> None:
    recorded(oak())

    terminal = Terminal("grow", "oak", "--discard-old-store")
    question = terminal.expect("Type oak to remove it: ")
    assert (
        "The old store of oak-node-1 goes: 3.0 MiB of messages, as they were at 2026-01-01 12:00 UTC."
        in question
    )
    terminal.answer("yes")

    assert terminal.end() == 2
    assert "That was not oak: nothing was changed." in terminal.shown
    assert site.local_registry().find("oak") == oak()


@pytest.mark.parametrize("phase", list(Phase)[:-1])
def test_a_forest_on_its_way_keeps_it(recorded: Callable[[Forest], None], phase: Phase) -> None:
    recorded(oak(phase, Status.GROWING))

    done = grow("oak", "--discard-old-store", "--yes")

    assert done.exit_code == 5
    assert "nothing was changed. Finish that first with morpheus grow oak." in done.stderr


@pytest.mark.parametrize(
    "more", [["--nodes", "5"], ["--auto"], ["--dry-run"], ["--watch"], ["--threshold", "9"]]
)
def test_it_stands_alone(recorded: Callable[[Forest], None], more: list[str]) -> None:
    recorded(oak())

    done = grow("oak", "--discard-old-store", *more)

    assert (done.exit_code, "leave the other options out" in done.stderr) == (2, True)


def test_without_forests_a_check_of_all_says_so(recorded: Callable[[Forest], None]) -> None:
    done = grow("--auto")

    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "There are no forests yet, so nothing was checked.\n"


# What is shown


def health(forest: Forest) -> Health:
    return machines_only(forest, [])


def shown(forest: Forest) -> list[str]:
    return show.health_screen(health(forest), "file:///local.json").splitlines()


def test_a_status_tells_where_it_is_until_when_and_how_it_goes() -> None:
    assert LINE.format("morpheus grow oak --discard-old-store") in shown(oak())
    assert not [line for line in shown(oak(None)) if "old store" in line]
    assert not [line for line in shown(oak().without("oak-node-1")) if "old store" in line]


def test_a_status_of_a_forest_on_its_way_says_how_to_finish() -> None:
    said = shown(oak(Phase.COMMITTED, Status.GROWING))

    assert "To finish its move into a cluster: morpheus grow oak" in said
    assert not [line for line in said if "morpheus plant" in line or "old store" in line]


def test_a_phase_that_only_a_newer_morpheus_knows_keeps_nobody_from_looking() -> None:
    assert shown(oak("thawed"))
