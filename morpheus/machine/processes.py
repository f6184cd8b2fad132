"""Programs of this machine that outlive the command that started them: start, find again, stop.

A program is known by boot id, start ticks and its folder: a record in the folder says which process it
is, and marks in the process's environment find one whose record was never written because the starter
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
from morpheus.errors import MachineError, NotReadyError
from morpheus.files import replace_file
from morpheus.machine import Program
from morpheus.wait import locked, wait_until

FOLDER_MARK, NAME_MARK, LEADER_MARK = "MORPHEUS_FOLDER", "MORPHEUS_PROGRAM", "MORPHEUS_LEADER"
START_TIMEOUT = 10.0  # seconds to wait for somebody who starts a program in the same folder
STOP_TIMEOUT = 10.0  # seconds between the polite signal and the other one
# A program gets no more of our environment than this: what else is in there may be secret.
INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_STANDARD = 2  # the highest of the three file descriptors every program has


def find(folder: Path, name: str) -> psutil.Process | None:
    """Return the running program *name* of *folder*, None when it does not run."""
    return _recorded(folder, name) or next((each for each in _marked(folder, name) if _leads(each)), None)


def start(folder: Path, program: Program) -> psutil.Process:
    """Start *program* in *folder* as the leader of a session of its own, or return the one that runs."""
    with _alone(folder):
        running = find(folder, program.name)
        if running:
            _remember(folder, program.name, running.pid)
            return running
        if not os.access(program.argv[0], os.X_OK) or Path(program.argv[0]).is_dir():
            raise MachineError(
                f"{program.argv[0]} is not a program that can be run; check the path and its mode."
            )
        pid = _spawn(folder, program)
        _remember(folder, program.name, pid)
        return psutil.Process(pid)


def reload(folder: Path, name: str) -> None:
    """Have the program read its configuration again, if it runs."""
    if process := find(folder, name):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGHUP)


def stop(folder: Path, name: str, *, timeout: float = STOP_TIMEOUT) -> None:
    """Stop the program and all it started; return when nothing of it is left.

    Raises:
        MachineError: something is left although it was killed, or its record may not be removed.
    """
    left = _family(folder, name)
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + timeout
        while left and time.monotonic() < deadline:
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)  # refuses a pid that was given away
                    process.resume()  # what was halted hears nothing before
            left = _wait_gone(f"{name} in {folder} to end", left, deadline - time.monotonic())
            left = left or _family(folder, name)  # what they started meanwhile
    if left:
        pids = ", ".join(str(each.pid) for each in left)
        raise MachineError(f"{name} in {folder} does not end, not even killed (pid {pids}).")
    try:
        _record(folder, name).unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(f"Cannot remove {_record(folder, name)}: {error.strerror or error}.") from error


def is_running(process: psutil.Process) -> bool:
    """Whether *process* still runs; what a child of ours left behind is cleared away."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def was_started(folder: Path, name: str) -> bool:
    """Whether the program was ever started in *folder*."""
    return _out(folder, name).exists()


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """What a program is given: of our own environment what is surely no secret, and *more*."""
    return {key: os.environ[key] for key in INHERITED if key in os.environ} | dict(more)


def _spawn(folder: Path, program: Program) -> int:
    marks = {FOLDER_MARK: str(folder), NAME_MARK: program.name}
    out = os.open(_out(folder, program.name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return os.posix_spawn(
            "/bin/sh",
            [
                *("/bin/sh", "-c", f'cd "$0" && export {LEADER_MARK}=$$ && exec "$@"'),
                *(str(folder), *program.argv),
            ],
            environment({**program.env, **marks}),
            setsid=True,
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE],
            setsigmask=[],
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, out, 1),
                (os.POSIX_SPAWN_DUP2, out, 2),
                *((os.POSIX_SPAWN_CLOSE, each) for each in _inherited_files()),
            ],
        )
    except OSError as error:
        raise MachineError(f"Cannot start {program.name} in {folder}: {error.strerror}.") from error
    finally:
        os.close(out)


def _inherited_files() -> list[int]:
    """What our own starter handed down to us: whoever waits for its end must not wait for the program's."""
    files = []
    for each in Path("/dev/fd").iterdir():
        with contextlib.suppress(OSError):
            if int(each.name) > _STANDARD and os.get_inheritable(int(each.name)):
                files.append(int(each.name))
    return files


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One at a time starts programs in *folder*: two that find nothing would both start one."""
    if not folder.is_dir():  # the lock would make it
        raise MachineError(f"The folder {folder} is not there.")
    with locked(folder / ".start.lock", timeout=START_TIMEOUT):
        yield


def _recorded(folder: Path, name: str) -> psutil.Process | None:
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError, psutil.Error):
        record = json.loads(_record(folder, name).read_text())
        if host.is_running(record):
            process = psutil.Process(record["pid"])
            return process if _marks(process) == (str(folder), name) else None
    return None


def _marks(process: psutil.Process) -> tuple[str, str] | None:
    """The folder and the name under which *process* was started; None for a program of somebody else."""
    with contextlib.suppress(psutil.Error, OSError):
        marks = process.environ()
        return (marks[FOLDER_MARK], marks[NAME_MARK]) if {FOLDER_MARK, NAME_MARK} <= marks.keys() else None
    return None


def _marked(folder: Path, name: str) -> Iterator[psutil.Process]:
    """Every process that carries the marks of the program *name* of *folder*."""
    mark = os.fsencode(f"{FOLDER_MARK}={folder}\0")
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            # Reading the file is six times as fast, and there may be hundreds of processes.
            if psutil.LINUX and mark not in Path(f"/proc/{pid}/environ").read_bytes():
                continue
            process = psutil.Process(pid)
            marks = process.environ()
            if marks.get(FOLDER_MARK) == str(folder) and marks.get(NAME_MARK) == name:
                yield process


def _leads(process: psutil.Process) -> bool:
    """Whether *process* is the program itself and nothing that it started."""
    with contextlib.suppress(psutil.Error, OSError):
        mark = process.environ().get(LEADER_MARK, str(process.pid))  # there as soon as the shell has run
        return mark == str(process.pid) and os.getsid(process.pid) == process.pid
    return False


def _family(folder: Path, name: str) -> list[psutil.Process]:
    """The program and everything it started that runs."""
    known = [*_marked(folder, name), *filter(None, [_recorded(folder, name)])]
    for process in tuple(known):
        with contextlib.suppress(psutil.Error):
            known += process.children(recursive=True)
    others = (None, (str(folder), name))  # what a worker's run started for a forest is the forest's
    return [each for each in dict.fromkeys(known) if is_running(each) and _marks(each) in others]


def _wait_gone(what: str, processes: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Those that still run after *timeout* seconds."""

    def running() -> list[psutil.Process]:
        return [each for each in processes if is_running(each)]

    def describe(left: list[psutil.Process]) -> str:
        return f"pid {', '.join(str(each.pid) for each in left)} still runs"

    try:
        return wait_until(what, running, lambda left: not left, describe, timeout=timeout, interval=0.01)
    except NotReadyError:
        return running()


def _record(folder: Path, name: str) -> Path:
    return folder / f"{name}.process.json"


def _out(folder: Path, name: str) -> Path:
    return folder / f"{name}.out"


def _remember(folder: Path, name: str, pid: int) -> None:
    record = {"host": host.host_id(), "boot": host.boot_id(), "pid": pid, "start": host.start_ticks(pid)}
    replace_file(_record(folder, name), json.dumps(record).encode())
