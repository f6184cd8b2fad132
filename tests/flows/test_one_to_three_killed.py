"""A command that lets a forest of one grow is killed with what stands by: no forest stays closed.

Programs write again by themselves until the old server is stopped; from then on somebody has to finish: the
same command, or the next check of a schedule.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.killed import SHORT
from tests.flows.killing import CLOSED, MARGIN, MORPHEUS, OPEN, check, ended, kill_both_at, planted, run_again
from tests.flows.test_one_to_three import Here, is_whole
from tests.flows.traffic import traffic
from tests.nats.grove import wait_for

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    with planted(tmp_path, monkeypatch) as here:
        yield here


@pytest.mark.parametrize("step", OPEN)
def test_until_the_old_server_is_stopped_programs_write_again_by_themselves(step: str, here: Here) -> None:
    with traffic(here.oak, copies=1) as programs:
        kill_both_at(step, here, OPEN[step])
        before = programs.acknowledged
        wait_for(lambda: programs.acknowledged > before + 50, bool, timeout=SHORT + MARGIN)
        run_again()

    assert is_whole(here)


@pytest.mark.parametrize("step", CLOSED)
def test_from_then_on_the_next_command_or_check_finishes_it(step: str, here: Here) -> None:
    phase, go_on = CLOSED[step]
    with traffic(here.oak, copies=1):
        kill_both_at(step, here, phase)
        go_on()

    assert is_whole(here)


@pytest.mark.parametrize("step", ["flows._migration:wait_ready", "flows._migration:check_restored"])
def test_a_check_begins_anew_what_was_not_finished(step: str, here: Here) -> None:
    with traffic(here.oak, copies=1):
        kill_both_at(step, here, OPEN[step])
        seen = ended(MORPHEUS, "status", "oak")
        assert (seen.returncode, "To finish its move into a cluster" in seen.stdout) == (7, True)
        assert f"streams are on their way from oak-node-1 into a cluster ({OPEN[step]})" in seen.stderr
        check()

    assert is_whole(here)
