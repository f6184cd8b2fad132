"""Waiting: ask a question again and again until its answer will do, and say what is awaited."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from morpheus.errors import NotReadyError, StoreBusyError

log = logging.getLogger("morpheus.wait")

Answer = TypeVar("Answer")


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

    What is awaited, for how long, and what was seen last goes to the log whenever it changes and
    every five seconds.

    Raises:
        NotReadyError: *timeout* seconds have passed; its text says what was seen last.
    """
    started = time.monotonic()
    said, said_at = "", started
    while True:
        answer = ask()
        if enough(answer):
            return answer
        waited = time.monotonic() - started
        seen = describe(answer)
        if waited > timeout:
            raise NotReadyError(f"Waited {timeout:.0f} s for {what}; last seen: {seen}.")
        if waited > 1 and (seen != said or time.monotonic() - said_at > 5):  # noqa: PLR2004  # seconds
            log.info("waiting for %s: %s (%.0f of %.0f s)", what, seen, waited, timeout)
            said, said_at = seen, time.monotonic()
        time.sleep(min(interval, timeout - waited))


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
