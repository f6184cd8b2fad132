"""A command that stands still for longer than its lease lasts, is taken over, and goes on."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from morpheus.registry.lease import DURATION, FRESH
from morpheus.wait import wait_until
from tests.e2e.conftest import PATIENCE, Done, Home, ended, is_free, of_running

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]  # each wait has a bound of its own
BOUND = DURATION.total_seconds() + FRESH + PATIENCE  # seconds until another command may have taken over


def stopped(home: Home, name: str, when: Callable[[], object]) -> "subprocess.Popen[str]":
    """The command that plants the forest *name*, stopped as soon as it came so far and holds no lock.

    (One that is stopped with a lock of this machine keeps everybody waiting, who are told so.)
    """
    command = home.start("plant", "local", "small", "--name", name)

    def stand_still() -> bool:
        os.kill(command.pid, signal.SIGSTOP)
        locks = (home.data / ".local.json.lock", home.data / "forests" / ".lock")
        if all(is_free(lock) for lock in locks):
            return True
        os.kill(command.pid, signal.SIGCONT)
        return False

    try:
        begun = of_running(command, when)
        wait_until(f"the planting of {name}", begun, bool, str, timeout=PATIENCE, interval=0.001)
        wait_until(f"{name} to hold no lock", stand_still, bool, str, timeout=PATIENCE, interval=0.001)
    except BaseException:
        command.kill()
        command.communicate()
        raise
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
    sleepers: dict[str, subprocess.Popen[str]] = {}
    try:
        sleepers["oak"] = stopped(home, "oak", lambda: home.forest("oak"))
        for name in ("elm", "yew"):
            sleepers[name] = stopped(home, name, (folder(home, f"{name}-node-1") / "nats.conf").exists)
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
            sleeper.communicate()

    assert {name: home.forest(name) for name in sleepers} == records
    assert home.running() == running
    assert sorted(path.name for path in running.values()) == ["elm-node-1", "oak-node-1"]
    assert home.left("yew") == []
    for name in ("oak", "elm"):
        assert home.morpheus("status", name).code == 0
