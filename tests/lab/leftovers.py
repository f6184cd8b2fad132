"""What a run leaves on the machine carries its name, so that the next one finds what a killed run left.

A run is ``mlab-`` and some letters. Its namespaces, cgroups and folder have names that begin so; its lock is
held while it lives. ``python -m tests.lab clear`` clears what runs have left that live no more.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

from tests.lab import namespaces
from tests.lab.commands import attempted, until
from tests.lab.namespaces import Namespace

PREFIX = "mlab-"
FOLDER = Path("/run/morpheus-lab")
NSPAWN = Path("/run/systemd/nspawn")  # it leaves a folder of each machine on a machine without systemd


class Run:
    """One run's name on the machine; :meth:`close` gives it back."""

    def __init__(self) -> None:
        self.name, self._lock = _new_name()
        self.folder = FOLDER / self.name
        self.folder.mkdir()

    def close(self) -> None:
        """Clear everything of the run but programs of its caller's that live in its namespaces."""
        end_cgroups(self.name)
        _clear(self.name)
        self._lock.close()


def _new_name() -> tuple[str, TextIOWrapper]:
    """A name nobody has, and its lock; another run may take a lock for a dead one's before it is held."""
    FOLDER.mkdir(exist_ok=True)
    while True:
        name = PREFIX + secrets.token_hex(2)
        with contextlib.suppress(FileExistsError):
            lock = _lock_of(name).open("x", encoding="ascii")
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _lock_of(name).exists():
                return name, lock
            lock.close()


def _lock_of(name: str) -> Path:
    return FOLDER / f"{name}.lock"


def clear_leftovers() -> list[str]:
    """Clear what dead runs left; return their names."""
    cleared = []
    for name in sorted(_runs()):
        with _held_by_nobody(name) as dead:
            if dead:
                end_cgroups(name)
                _end_inhabitants(name)
                _clear(name)
                cleared.append(name)
    return cleared


def _runs() -> set[str]:
    """The names of all runs that have anything on this machine."""
    places = [FOLDER, namespaces.FOLDER, *cgroup_roots()]
    found = [path.name for place in places if place.is_dir() for path in place.glob(f"{PREFIX}*")]
    return {PREFIX + each.removeprefix(PREFIX).partition("-")[0].removesuffix(".lock") for each in found}


@contextlib.contextmanager
def _held_by_nobody(name: str) -> Iterator[bool]:
    try:
        with _lock_of(name).open(encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
    except BlockingIOError:
        yield False
    except FileNotFoundError:
        yield True


def cgroup_roots() -> list[Path]:
    """Where a host's processes are to be found: the unified hierarchy, and systemd's own beside it."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    return [
        Path(place)
        for _, place, kind, options, *_ in mounts
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(","))
    ]


def end_cgroups(name: str) -> None:
    """End at once all processes in the cgroup *name*, a run's or a host's (``run/host``), and remove it."""
    groups = [root / name for root in cgroup_roots() if (root / name).is_dir()]
    for switch in (group / "cgroup.kill" for group in groups):
        if switch.exists():
            switch.write_text("1", encoding="ascii")
    for pid in _members(groups):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(f"the processes of {name} have ended", lambda: not _members(groups))
    until(f"the cgroup {name} is gone", lambda: _removed(groups))


def _members(groups: list[Path]) -> set[int]:
    """Processes of these groups and of those within; zombies wait for their parents, and count no more."""
    found: set[int] = set()
    for folder in [folder for group in groups for folder in _within(group)]:
        with contextlib.suppress(OSError):
            found |= {int(each) for each in (folder / "cgroup.procs").read_text(encoding="ascii").split()}
    return {pid for pid in found if pid and not _is_zombie(pid)}


def _within(group: Path) -> list[Path]:
    """A cgroup's folders, the innermost first, while others may take them away."""
    return [Path(folder) for folder, _, _ in os.walk(group, topdown=False)]


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _removed(groups: list[Path]) -> bool:
    for folder in [folder for group in groups for folder in _within(group)]:
        with contextlib.suppress(OSError):
            folder.rmdir()
    return not any(group.exists() for group in groups)


def _spaces(name: str) -> list[Namespace]:
    return [Namespace(path.name) for path in namespaces.FOLDER.glob(f"{name}-*")]


def _end_inhabitants(name: str) -> None:
    for pid in {pid for space in _spaces(name) for pid in space.processes()} - {os.getpid()}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _clear(name: str) -> None:
    for space in _spaces(name):
        space.delete()
    folder = FOLDER / name
    unmount_all(folder)
    for each in (folder, *NSPAWN.glob(f"*/{name}-*")):
        shutil.rmtree(each, ignore_errors=True)
    _lock_of(name).unlink(missing_ok=True)


def unmount_all(folder: Path) -> None:
    """Unmount what is mounted below a folder, the last first."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    places = [line.split()[1] for line in lines]
    for place in reversed([each for each in places if each.startswith(f"{folder}/")]):
        attempted(["umount", "--lazy", place])
