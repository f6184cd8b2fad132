"""Programs of this machine that outlive the command that started them: start, find again, stop.

A program is known by boot id, start ticks and its folder: a record in the folder says which process it
is, and a mark in the process's environment finds one whose record was never written because the starter
died in between. A process id that was given to somebody else since is never touched.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from morpheus import host
from morpheus.errors import MachineError
from morpheus.files import replace_file
from morpheus.machine import Program

FOLDER_MARK, NAME_MARK = "MORPHEUS_FOLDER", "MORPHEUS_PROGRAM"
STOP_TIMEOUT = 10.0  # seconds between the polite signal and the other one
# A program gets no more of our environment than this: what else is in there may be secret.
INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")


def find(folder: Path, name: str) -> psutil.Process | None:
    """Return the running program *name* of *folder*, None when it does not run."""
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, psutil.Error):
        record = json.loads(_record(folder, name).read_text())
        if host.is_running(record):
            return psutil.Process(record["pid"])
        if record["boot"] != host.boot_id():
            return None  # nothing survives a restart
    leaders = (each for each in _marked(folder, name) if os.getsid(each.pid) == each.pid)
    with contextlib.suppress(ProcessLookupError):
        return next(leaders, None)
    return None


def start(folder: Path, program: Program) -> psutil.Process:
    """Start *program* in *folder* as the leader of a session of its own, or return the one that runs."""
    running = find(folder, program.name)
    if running:
        _remember(folder, program.name, running.pid)
        return running
    if not os.access(program.argv[0], os.X_OK):
        raise MachineError(
            f"{program.argv[0]} is not a program that can be run; check the path and its mode."
        )
    out = os.open(folder / f"{program.name}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        pid = os.posix_spawn(
            "/bin/sh",
            ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(folder), *program.argv],
            _environment(folder, program),
            setsid=True,
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE],
            setsigmask=[],
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, out, 1),
                (os.POSIX_SPAWN_DUP2, out, 2),
            ],
        )
    except OSError as error:
        raise MachineError(f"Cannot start {program.name} in {folder}: {error.strerror}.") from error
    finally:
        os.close(out)
    _remember(folder, program.name, pid)
    return psutil.Process(pid)


def stop(folder: Path, name: str, *, timeout: float = STOP_TIMEOUT) -> None:
    """Stop the program and all it started; return when nothing of it is left.

    Raises:
        MachineError: something is left although it was killed.
    """
    leader = find(folder, name)
    left = _tree(leader) if leader else []
    left += [each for each in _marked(folder, name) if each not in left]
    for number, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, timeout)):
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)  # refuses a pid that was given away
        left = _wait_gone(left, patience)
        if not left:
            _record(folder, name).unlink(missing_ok=True)
            return
    pids = ", ".join(str(each.pid) for each in left)
    raise MachineError(f"{name} in {folder} does not end, not even killed (pid {pids}).")


def is_running(process: psutil.Process) -> bool:
    """Whether *process* still runs; what a child of ours left behind is cleared away."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _tree(leader: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return [leader, *leader.children(recursive=True)]
    return [leader]


def _wait_gone(processes: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    deadline = time.monotonic() + timeout
    while (left := [each for each in processes if is_running(each)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def _marked(folder: Path, name: str) -> Iterator[psutil.Process]:
    """Every process that carries the mark of the program *name* of *folder*."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            environment = process.environ()
            if environment.get(FOLDER_MARK) == str(folder) and environment.get(NAME_MARK) == name:
                yield process


def _environment(folder: Path, program: Program) -> Mapping[str, str]:
    inherited = {key: os.environ[key] for key in INHERITED if key in os.environ}
    return {**inherited, **program.env, FOLDER_MARK: str(folder), NAME_MARK: program.name}


def _record(folder: Path, name: str) -> Path:
    return folder / f"{name}.process.json"


def _remember(folder: Path, name: str, pid: int) -> None:
    record = {"host": host.host_id(), "boot": host.boot_id(), "pid": pid, "start": host.start_ticks(pid)}
    replace_file(_record(folder, name), json.dumps(record).encode())


def was_started(folder: Path, name: str) -> bool:
    """Whether the program was ever started in *folder*."""
    return (folder / f"{name}.out").exists()
