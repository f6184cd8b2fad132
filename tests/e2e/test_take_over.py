"""A command that stands still for longer than its lease lasts, is taken over, and goes on."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from morpheus.registry.lease import DURATION, FRESH
from morpheus.wait import wait_until
from tests.e2e.conftest import PATIENCE, Done, Home, ended

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]  # each wait has a bound of its own
BOUND = DURATION.total_seconds() + FRESH + PATIENCE  # seconds until another command may have taken over


def stopped(home: Home, name: str, when: Callable[[], object]) -> "subprocess.Popen[str]":
    """The command that plants the forest *name*, stopped as soon as it came so far."""
    command = home.start("plant", "local", "small", "--name", name)
    wait_until(f"the planting of {name}", when, bool, str, timeout=PATIENCE, interval=0.001)
    os.kill(command.pid, signal.SIGSTOP)
    return command


def taken_over(home: Home, *command: str) -> Done:
    """What *command* says once the forest is free; before it is told who holds it."""

    def once() -> Done:
        done = home.morpheus(*command)
        assert done.code in {0, 4}, done.err
        return done

    return wait_until(" ".join(command), once, lambda done: done.code == 0, str, timeout=BOUND, interval=2)


def folder(home: Home, node: str) -> Path:
    return home.data / "forests" / node.rpartition("-node-")[0] / node


def test_who_stood_still_and_was_taken_over_does_nothing_more(home: Home) -> None:
    """Oak stands still with its names reserved, elm and yew with a machine that is configured."""
    sleepers = {
        "oak": stopped(home, "oak", lambda: home.forest("oak")),
        "elm": stopped(home, "elm", (folder(home, "elm-node-1") / "nats.conf").exists),
        "yew": stopped(home, "yew", (folder(home, "yew-node-1") / "nats.conf").exists),
    }
    try:
        for name in ("oak", "elm"):
            taken_over(home, "plant", "local", "small", "--name", name)
        taken_over(home, "teardown", "yew", "--yes")
        running = home.running()
        records = {name: home.forest(name) for name in sleepers}
        for sleeper in sleepers.values():
            os.kill(sleeper.pid, signal.SIGCONT)
        for sleeper in sleepers.values():
            awake = ended(sleeper)
            assert awake.code == 4, awake.err
            assert "took" in awake.sentence
    finally:
        for sleeper in sleepers.values():
            sleeper.kill()

    assert {name: home.forest(name) for name in sleepers} == records
    assert home.running() == running
    assert sorted(path.name for path in running.values()) == ["elm-node-1", "oak-node-1"]
    assert home.left("yew") == []
    for name in ("oak", "elm"):
        assert home.morpheus("status", name).code == 0
