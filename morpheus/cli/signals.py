"""Ctrl-C and SIGTERM at any moment of a command: before its work, while it works, and after it.

While a command works they are exceptions, so that what was begun can be taken back. An exception that hits
an import, or the end of the interpreter, would be lost or come out as a traceback: before and after the work,
when there is nothing to take back, the process ends at once.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

BOTH = (signal.SIGINT, signal.SIGTERM)
WORDS = {signal.SIGINT: "Interrupted", signal.SIGTERM: "Terminated"}


class TerminatedError(BaseException):
    """The process was told to end (SIGTERM)."""


def end_at_once() -> None:
    """Obey from now on by ending; for a process that is a command, before it begins."""
    _obey(_ended_before)


@contextlib.contextmanager
def as_errors() -> Iterator[None]:
    """While the block runs, signals are KeyboardInterrupt and TerminatedError; afterwards they end at once.

    Only in a process that is a command: in others, signals are not ours.
    """
    if signal.getsignal(signal.SIGTERM) is not _ended_before:
        yield
        return
    try:
        _obey(terminate)
        yield
    finally:
        _obey(_ended_after)


def ignore() -> None:
    """Ignore both: the command is ending already."""
    for number in BOTH:
        signal.signal(number, signal.SIG_IGN)


def _obey(handler: Callable[[int, FrameType | None], None]) -> None:
    signal.signal(signal.SIGTERM, handler)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as shells have it in their background
        signal.signal(signal.SIGINT, signal.default_int_handler if handler is terminate else handler)


def terminate(_number: int, _frame: FrameType | None) -> None:
    """End the command in order; while a flow runs, Prefect does so first and then sends the signal again."""
    raise TerminatedError


def _ended_before(number: int, _frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"morpheus: {WORDS[signal.Signals(number)]}. Nothing was changed.\n".encode())
    os._exit(128 + number)


def _ended_after(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
