"""What can be heard and seen of a plant while it goes on: logs, and the command lines of all processes."""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

LOGGERS = ("", "prefect", "prefect.flow_runs", "prefect.task_runs", "morpheus")
YOUNG = 5  # looks at a process, which may become another program after its birth


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """All that is logged while the block runs, the smallest things too."""
    lines: list[str] = []
    ear = logging.Handler(logging.DEBUG)
    ear.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    ear.emit = lambda record: lines.append(ear.format(record))  # type: ignore[method-assign]  # it is all it does
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.DEBUG)
        each.addHandler(ear)
    try:
        yield lines
    finally:
        for each, level in zip(loggers, before, strict=True):
            each.removeHandler(ear)
            each.setLevel(level)


@contextlib.contextmanager
def watched() -> Iterator[set[str]]:
    """The command lines of all processes that live while the block runs, on hosts too."""
    lines: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        looks: dict[str, int] = {}
        while not over.wait(0.005):
            there = {each.name for each in os.scandir("/proc") if each.name.isdigit()}
            looks = {pid: looks.get(pid, 0) + 1 for pid in there}
            for pid in (pid for pid, count in looks.items() if count < YOUNG):
                with contextlib.suppress(OSError):
                    line = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ")
                    lines.add(line.decode("utf-8", "replace"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lines
    finally:
        over.set()
        thread.join()
