"""This machine and its processes: a process is the same one only on the same boot and with the same start."""

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from morpheus import host
from tests.machine.conftest import wait_for


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A child of ours that runs."""
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        yield process
        process.kill()


def seen(pid: int, **changes: Any) -> dict[str, Any]:
    return {**host.this_process(), "pid": pid, "start": host.start_ticks(pid), **changes}


def test_a_running_process_is_the_same_and_has_not_ended(process: subprocess.Popen[bytes]) -> None:
    record = seen(process.pid)

    assert host.is_running(record)
    assert not host.has_ended(record)


def test_we_ourselves_run() -> None:
    assert host.this_process()["pid"] == os.getpid()
    assert host.is_running(host.this_process())


def test_a_process_that_ended_has_ended_even_before_it_is_cleared_away(
    process: subprocess.Popen[bytes],
) -> None:
    record = seen(process.pid)

    process.kill()

    wait_for(lambda: host.has_ended(record))
    assert not host.is_running(record)
    assert host.start_ticks(process.pid) is None


@pytest.mark.parametrize(
    "change", [{"start": 1}, {"start": None}, {"pid": 2**22 + 1}, {"boot": "before"}], ids=str
)
def test_another_process_is_not_the_same(process: subprocess.Popen[bytes], change: dict[str, Any]) -> None:
    assert not host.is_running({**seen(process.pid), **change})


def test_nothing_is_certain_of_another_host(process: subprocess.Popen[bytes]) -> None:
    record = seen(process.pid, host="another", start=1)

    assert not host.is_running(record)
    assert not host.has_ended(record)


@pytest.mark.parametrize(
    "record", [{"pid": 0}, {"pid": "x"}, {"pid": -1}, {"pid": None, "start": None}, {"pid": []}], ids=str
)
def test_what_says_nothing_is_no_running_process(record: dict[str, Any]) -> None:
    assert not host.is_running(record)
    assert not host.is_running({**host.this_process(), **record})


def test_the_clock_that_counts_sleep_runs_forward() -> None:
    first = host.awake_seconds()

    assert first > 0
    wait_for(lambda: host.awake_seconds() > first)


def test_an_operator_is_a_user_of_a_machine() -> None:
    user, _, machine = host.operator().partition("@")

    assert user
    assert machine
