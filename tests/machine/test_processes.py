"""Programs outlive who started them, are found again, stop with all they started; others are left alone."""

import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from morpheus import host
from morpheus.errors import MachineError
from morpheus.machine import Program, processes
from tests.machine.conftest import NAME, python, shell, wait_for

STARTER = """
import os, signal, sys
from pathlib import Path
from morpheus.machine import Program, processes
folder = Path(sys.argv[1])
print(processes.start(folder, Program("sleeper", ("/bin/sleep", "600"))).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def stranger() -> Iterator[psutil.Process]:
    """A process that is none of ours."""
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        yield psutil.Process(process.pid)
        process.kill()


@pytest.fixture
def sleeper(folder: Path) -> psutil.Process:
    """A program of *folder* that runs."""
    return processes.start(folder, shell("exec sleep 600"))


def record(folder: Path) -> Path:
    return folder / f"{NAME}.process.json"


def rewrite(folder: Path, **changes: Any) -> None:
    """Change what the record in *folder* says, or write one where there is none."""
    file = record(folder)
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, **changes}))


def family(folder: Path) -> list[psutil.Process]:
    """Everything that runs and carries the mark of *folder*."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(processes.FOLDER_MARK) == str(folder):
                found.append(process)
        except psutil.Error:
            continue
    return [each for each in found if processes.is_running(each)]


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "record missing"])
def test_a_program_outlives_its_killed_starter_and_is_found(folder: Path, recorded: bool) -> None:
    argv = [sys.executable, "-c", STARTER, str(folder)]
    starter = subprocess.run(argv, capture_output=True, text=True, check=False)
    if not recorded:
        record(folder).unlink()

    found = processes.find(folder, NAME)

    assert starter.returncode == -signal.SIGKILL
    assert found is not None
    assert found.pid == int(starter.stdout)


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"pid": "x"}', '{"pid": -1}', "\udcff"])
def test_a_broken_record_hides_no_program(folder: Path, sleeper: psutil.Process, text: str) -> None:
    record(folder).write_text(text, errors="surrogateescape")

    assert processes.find(folder, NAME) == sleeper


@pytest.mark.parametrize(
    "stale", [{"boot": "before"}, {"start": 1}, {"host": "another"}, {"pid": 1}], ids=str
)
def test_a_stale_record_hides_no_program(
    folder: Path, sleeper: psutil.Process, stale: dict[str, Any]
) -> None:
    rewrite(folder, **stale)

    assert processes.find(folder, NAME) == sleeper
    assert processes.start(folder, shell("exec sleep 600")) == sleeper


@pytest.mark.parametrize("other", ["start", "boot", "host"])
def test_a_pid_that_somebody_else_got_is_never_touched(
    folder: Path, stranger: psutil.Process, other: str
) -> None:
    rewrite(folder, **{**host.this_process(), "pid": stranger.pid, "start": host.start_ticks(stranger.pid)})
    rewrite(folder, **{other: 1 if other == "start" else "another"})

    found = processes.find(folder, NAME)
    processes.stop(folder, NAME)

    assert found is None
    assert processes.is_running(stranger)


def test_a_program_of_another_folder_or_name_is_another_program(
    folder: Path, sleeper: psutil.Process
) -> None:
    record(folder).unlink()

    assert processes.find(folder, "sleep") is None
    assert processes.find(folder.parent, NAME) is None
    assert processes.find(folder, NAME) == sleeper


def test_starting_from_many_threads_is_one_process(folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        started = list(pool.map(lambda _: processes.start(folder, shell("exec sleep 600")), range(8)))

    assert set(started) == {started[0]}
    assert family(folder) == [started[0]]


def test_a_program_that_ended_is_not_found(folder: Path) -> None:
    ended = processes.start(folder, shell("exit 3"))
    wait_for(lambda: not processes.is_running(ended))

    assert processes.find(folder, NAME) is None


def test_stopping_ends_children_even_in_sessions_of_their_own(folder: Path) -> None:
    processes.start(folder, shell("sleep 600 & setsid sleep 600 & (setsid sleep 600 &) ; wait"))
    wait_for(lambda: len(family(folder)) == 4)

    processes.stop(folder, NAME)

    assert family(folder) == []


def test_stopping_ends_children_that_hide_their_mark(folder: Path) -> None:
    leader = processes.start(folder, shell("env -i sleep 600 & wait"))
    wait_for(lambda: [each.name() for each in leader.children()] == ["sleep"])
    hidden = leader.children()

    processes.stop(folder, NAME)

    assert not any(processes.is_running(each) for each in hidden)


def test_stopping_ends_what_is_started_while_it_stops(folder: Path) -> None:
    processes.start(folder, shell("trap 'sleep 601 & exit' TERM; touch ready; while :; do sleep 0.01; done"))
    wait_for((folder / "ready").exists)

    processes.stop(folder, NAME)

    assert family(folder) == []


def test_stopping_kills_what_does_not_listen(folder: Path) -> None:
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); open('ready', 'w'); signal.pause()"
    processes.start(folder, python(deaf))
    wait_for((folder / "ready").exists)

    processes.stop(folder, NAME, timeout=0.2)

    assert family(folder) == []


def test_stopping_what_was_halted_is_as_gentle_and_fast(folder: Path, sleeper: psutil.Process) -> None:
    sleeper.suspend()
    wait_for(lambda: sleeper.status() == psutil.STATUS_STOPPED)
    started = time.monotonic()

    processes.stop(folder, NAME)

    assert time.monotonic() - started < processes.STOP_TIMEOUT / 2
    assert family(folder) == []


def test_a_stop_that_takes_long_says_what_it_waits_for(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "morpheus.wait")
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); open('ready', 'w'); signal.pause()"
    pid = processes.start(folder, python(deaf)).pid
    wait_for((folder / "ready").exists)

    processes.stop(folder, NAME, timeout=1.3)

    assert f"waiting for {NAME} in {folder} to end: pid {pid} still runs (1 of 1 s)" in caplog.text


def test_an_orphan_of_a_program_that_died_is_not_the_program(folder: Path) -> None:
    leader = processes.start(folder, shell("setsid sleep 600 & wait"))
    wait_for(lambda: len(family(folder)) == 2)
    leader.kill()
    wait_for(lambda: len(family(folder)) == 1)
    record(folder).unlink()

    assert processes.find(folder, NAME) is None

    processes.stop(folder, NAME)
    assert family(folder) == []


def test_no_secret_of_ours_is_handed_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HETZNER_API_TOKEN", "STORAGEBOX_PASSWORD", "PREFECT_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "secret")

    started = processes.start(folder, Program(NAME, ("/bin/sleep", "600"), {"NATS_URL": "nats://localhost"}))

    wait_for(lambda: started.name() == "sleep")
    environment = started.environ()
    assert "secret" not in environment.values()
    assert environment["NATS_URL"] == "nats://localhost"
    assert environment["PATH"] == os.environ["PATH"]


def test_a_signal_that_we_ignore_still_ends_the_program(folder: Path) -> None:
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        started = processes.start(folder, Program(NAME, ("/bin/sleep", "600")))
    finally:
        signal.signal(signal.SIGINT, ours)

    started.send_signal(signal.SIGINT)

    wait_for(lambda: not processes.is_running(started))


def test_a_key_pressed_in_our_terminal_reaches_no_program(sleeper: psutil.Process) -> None:
    assert os.getsid(sleeper.pid) == sleeper.pid != os.getsid(0)


def test_who_waits_for_the_end_of_our_output_does_not_wait_for_the_program(folder: Path) -> None:
    ours, handed_down = os.pipe()
    os.set_inheritable(handed_down, True)
    processes.start(folder, shell("exec sleep 600"))
    os.close(handed_down)

    ready, _, _ = select.select([ours], [], [], 5)

    assert ready == [ours]
    assert os.read(ours, 1) == b""
    os.close(ours)


def test_what_a_program_prints_stands_in_its_folder(folder: Path) -> None:
    ended = processes.start(folder, shell("pwd; echo two >&2"))
    wait_for(lambda: not processes.is_running(ended))

    assert (folder / f"{NAME}.out").read_text() == f"{folder}\ntwo\n"


def test_a_file_that_may_not_be_run_is_an_error_and_no_start(folder: Path) -> None:
    (folder / "text").write_text("hello")

    for path in (folder / "text", folder / "absent", folder):
        with pytest.raises(MachineError, match="not a program"):
            processes.start(folder, Program(NAME, (str(path),)))

    assert not processes.was_started(folder, NAME)


def test_a_record_that_points_at_a_program_of_nobody_touches_nothing(
    folder: Path, stranger: psutil.Process
) -> None:
    rewrite(folder, **{**host.this_process(), "pid": stranger.pid, "start": host.start_ticks(stranger.pid)})

    processes.stop(folder, NAME)

    assert processes.find(folder, NAME) is None
    assert processes.is_running(stranger)


def test_stopping_a_program_spares_what_it_started_for_another_folder(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    code = (
        "import signal, sys; from pathlib import Path; from morpheus.machine import Program, processes; "
        f"processes.start(Path({str(other)!r}), Program({NAME!r}, ('/bin/sleep', '600'))); signal.pause()"
    )
    processes.start(folder, Program(NAME, (sys.executable, "-c", code)))
    wait_for(lambda: processes.find(other, NAME))
    spared = processes.find(other, NAME)

    processes.stop(folder, NAME)

    assert spared is not None
    assert processes.is_running(spared)
    processes.stop(other, NAME)
