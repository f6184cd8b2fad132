"""How busy a machine is, as percentages of all it has: measured on it, over some seconds.

What NATS tells is one process; a machine is as full as everything on it together.
"""

from dataclasses import dataclass

import psutil

from morpheus.errors import MachineError
from morpheus.machine import Machine

BOUND = 10.0  # seconds beside the window until it must have told

# $1 the window in seconds, $2 a folder of the file system that counts
_SCRIPT = """
head -n 1 /proc/stat
sleep "$1"
head -n 1 /proc/stat
grep -E '^Mem(Total|Available):' /proc/meminfo
stat -f -c '%b %f %a' -- "$2"
"""
_TIMES = 8  # user, nice, system, idle, iowait, irq, softirq, steal; guests are in the first two already
_IDLE = (3, 4)


@dataclass(frozen=True, slots=True)
class Gauges:
    """Percentages of all cores over the window, of the memory and of the disk with the store."""

    cpu: float
    memory: float
    disk: float


def measure(machine: Machine, window: float) -> Gauges:
    """The gauges of *machine*, in one call on it that lasts *window* seconds.

    Raises:
        UnreachableError: it gives no answer.
        MachineError: it cannot tell.
    """
    argv = ("/bin/sh", "-c", _SCRIPT, "gauges", f"{window:g}", machine.layout.store)
    said = machine.run(*argv, timeout=window + BOUND)
    try:
        return parse(said)
    except (ValueError, LookupError, ZeroDivisionError) as error:
        raise MachineError(
            f"{machine.name} told nothing of its load that can be read: {said!r:.200}"
        ) from error


def parse(said: str) -> Gauges:
    """The gauges in what the script printed.

    Raises:
        ValueError, LookupError, ZeroDivisionError: it is something else.
    """
    before, after, *memory, disk = said.strip().splitlines()
    kilobytes = {name: int(number) for name, number, _ in map(str.split, memory)}
    blocks, free, ours = map(int, disk.split())
    used = blocks - free  # what root keeps back is neither used nor to be had
    return Gauges(
        cpu=_busy(before, after),
        memory=100 - 100 * kilobytes["MemAvailable:"] / kilobytes["MemTotal:"],
        disk=100 * used / (used + ours),
    )


def _busy(before: str, after: str) -> float:
    """The share of the time between two lines of /proc/stat in which cores worked, or others used them."""
    first, last = ([int(word) for word in line.split()[1 : 1 + _TIMES]] for line in (before, after))
    passed = [end - begin for begin, end in zip(first, last, strict=True)]
    return 100 - 100 * sum(passed[k] for k in _IDLE) / sum(passed)


def of_this_computer(folder: str, window: float) -> Gauges:
    """The gauges of this computer, with the disk that holds *folder*; lasts *window* seconds.

    Raises:
        MachineError: it cannot tell.
    """
    try:
        cpu, memory = psutil.cpu_percent(interval=window), psutil.virtual_memory().percent
        return Gauges(cpu, memory, psutil.disk_usage(folder).percent)
    except (psutil.Error, OSError) as error:
        raise MachineError(f"This computer does not tell its load: {error}.") from error
