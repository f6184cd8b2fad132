"""Running the machine's own programs: what they complain of is what a failing test shows."""

import subprocess
import time
from collections.abc import Callable, Sequence


def run(argv: Sequence[str], *, text: str | None = None, timeout: float = 60) -> str:
    """Run a program to its end, *text* on its standard input, and return what it said.

    Raises:
        AssertionError: it failed.
    """
    done = attempted(argv, text=text, timeout=timeout)
    assert done.returncode == 0, f"{' '.join(argv)} ended with {done.returncode}: {done.stderr}{done.stdout}"
    return done.stdout


def attempted(
    argv: Sequence[str], *, text: str | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, however that is."""
    return subprocess.run(
        list(argv), input=text or "", capture_output=True, text=True, check=False, timeout=timeout
    )


def until(what: str, ask: Callable[[], object], *, timeout: float = 20, interval: float = 0.005) -> None:
    """Wait until something is so; unlike morpheus.wait this goes on when the run under test is taken back."""
    started = time.monotonic()
    while not ask():
        assert time.monotonic() - started < timeout, f"waited {timeout:.0f} s until {what}"
        time.sleep(interval)
