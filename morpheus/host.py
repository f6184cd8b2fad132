"""This machine and its processes: which boot, which process, and is it still the same one?"""

import contextlib
import functools
import getpass
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

_FIRST_SPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of the Linux kernel


@functools.cache
def boot_id() -> str:
    """An id of the running boot of this machine; another one after each restart."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return str(round(psutil.boot_time()))


@functools.cache
def pid_space() -> str:
    """The space that process ids of this container count in; empty outside containers."""
    with contextlib.suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
        return "" if space == _FIRST_SPACE else space
    return ""


@functools.cache
def host_id() -> str:
    """An id of this installation that stays over restarts."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with contextlib.suppress(OSError):
            if text := Path(path).read_text().strip():
                return text
    return f"{uuid.getnode():012x}"


def start_ticks(pid: int) -> int | None:
    """When process *pid* started, in clock ticks since boot (elsewhere than on Linux: in 10 ms of the epoch).

    None where there is no such process, or only the remains of one that has ended.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            # Field 22; the program's name, field 2, may itself hold spaces and brackets.
            return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        return round(process.create_time() * 100)
    except (psutil.Error, ProcessLookupError):
        return None


def this_process() -> dict[str, Any]:
    """What tells this process from every other one, as JSON."""
    pid = psutil.Process().pid
    space = {"space": pid_space()} if pid_space() else {}
    return {"host": host_id(), "boot": boot_id(), "pid": pid, "start": start_ticks(pid), **space}


def is_running(process: Mapping[str, Any]) -> bool:
    """Whether *process* is one of this boot that we can see, and still the same one."""
    if process.get("host") != host_id() or process.get("boot") != boot_id():
        return False
    start, pid = process.get("start"), process.get("pid")
    return start is not None and isinstance(pid, int) and pid > 0 and start_ticks(pid) == start


def has_ended(process: Mapping[str, Any]) -> bool:
    """Whether *process* (of :func:`this_process`) ran on this machine and certainly runs no more.

    Containers have process ids of their own, and often the same host id on different machines: of
    another container, or of another boot seen from within one, nothing is certain.
    """
    if process.get("host") != host_id() or process.get("space", "") != pid_space():
        return False
    if process.get("boot") != boot_id():
        return not pid_space()
    return not is_running(process)


def operator() -> str:
    """Who acts, for people to read: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def awake_seconds() -> float:
    """A clock that also counts while the machine sleeps, in seconds from some fixed moment."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(time.CLOCK_MONOTONIC if clock is None else clock)
