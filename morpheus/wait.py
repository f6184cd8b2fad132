"""Waiting: ask a question again and again until its answer will do, and say what is awaited."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from morpheus.errors import AbandonedError, NotReadyError, StoreBusyError

log = logging.getLogger("morpheus.wait")

Answer = TypeVar("Answer")

SAID_AGAIN, SAID_AT_LAST = 5.0, 30.0  # seconds until the same is said again, at first and in the end
_over: ContextVar[threading.Event | None] = ContextVar("over", default=None)


def let_wait() -> None:
    """Waits of this context, and of threads that get a copy of it, last until :func:`end_waits`."""
    _over.set(threading.Event())


def end_waits() -> None:
    """End the waits of this context and of its copies, those under way and those that would begin."""
    if over := _over.get():
        over.set()


def check_wanted() -> None:
    """Raise AbandonedError after :func:`end_waits`."""
    if (over := _over.get()) and over.is_set():
        raise AbandonedError("This is being taken back, so nothing more is begun.")


def pause(seconds: float) -> None:
    """Return after *seconds*.

    Raises:
        AbandonedError: the run does not want it any more.
    """
    (_over.get() or threading.Event()).wait(seconds)
    check_wanted()


def wait_until(  # noqa: PLR0913  # each one is a fact of the wait
    what: str,
    ask: Callable[[], Answer],
    enough: Callable[[Answer], bool],
    describe: Callable[[Answer], str],
    *,
    timeout: float,
    interval: float = 0.02,
) -> Answer:
    """Return the first answer that is *enough*, asking every *interval* seconds.

    What is awaited, for how long, and what was seen last goes to the log whenever it changes, again after
    five seconds, and then less and less often, down to twice a minute.

    Raises:
        AbandonedError: the run does not want it any more.
        NotReadyError: *timeout* seconds have passed; its text says what was seen last.
    """
    started = time.monotonic()
    said, said_at, pause = "", started, SAID_AGAIN
    over = _over.get() or threading.Event()
    while True:
        if over.is_set():
            raise AbandonedError(f"Nobody waits for {what} any more.")
        answer = ask()
        if enough(answer):
            return answer
        waited = time.monotonic() - started
        seen = describe(answer)
        if waited > timeout:
            raise NotReadyError(f"Waited {timeout:.0f} s for {what}; last seen: {seen}.")
        if waited > 1 and (seen != said or time.monotonic() - said_at > pause):
            log.info("waiting for %s: %s (%.0f of %.0f s)", what, seen, waited, timeout)
            pause = SAID_AGAIN if seen != said else min(2 * pause, SAID_AT_LAST)
            said, said_at = seen, time.monotonic()
        over.wait(min(interval, timeout - waited))


@contextlib.contextmanager
def locked(path: Path, *, timeout: float) -> Iterator[None]:
    """Hold the lock file *path* while the block runs; a holder that dies gives it back at once.

    Raises:
        StoreBusyError: somebody else held it for *timeout* seconds.
        OSError: the file cannot be made.
    """
    import filelock  # noqa: PLC0415  # reading commands never need it

    lock = filelock.FileLock(path)

    def try_it() -> bool:
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(blocking=False)
        return lock.is_locked

    try:
        wait_until(
            f"the lock {path}",
            try_it,
            bool,
            lambda _: "another program holds it",
            timeout=timeout,
            interval=0.005,
        )
    except NotReadyError as error:
        raise StoreBusyError(
            f"Another program held the lock {path} for {timeout:.0f} s; run this again."
        ) from error
    try:
        yield
    finally:
        lock.release()
