"""Waiting: ask a question again and again until its answer will do, and say what is awaited."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from morpheus.errors import NotReadyError

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
