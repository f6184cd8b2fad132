"""Ctrl-C and SIGTERM in the first moments: one sentence, never a traceback.

What Python itself does before our first line, and what it prints when a signal comes then, is out of reach.
So the clock is the import of modules, nearly all of which come after that line: the command sends itself a
signal when it looks for the one of some number.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

# As the console script does it, but for the signal. Without one, it tells how many modules were looked for.
COMMAND = """
import atexit, os, sys
from morpheus.cli import main

class Trap:
    at, number, seen = int(sys.argv.pop(1)), int(sys.argv.pop(1)), 0

    def find_spec(self, *_):
        self.seen += 1
        if self.seen == self.at:
            os.kill(os.getpid(), self.number)

trap = Trap()
sys.meta_path.insert(0, trap)
if not trap.at:
    atexit.register(lambda: print(trap.seen, file=sys.stderr))
main()
"""
MOMENTS = 12
COMMANDS = ("list", "plant local --dry-run", "version")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"HOME": str(tmp_path), "MORPHEUS_DATA_DIR": str(tmp_path / "data")}


def run(
    command: str, environment: Mapping[str, str], at: int = 0, number: signal.Signals = signal.SIGINT
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", COMMAND, str(at), str(int(number)), *command.split()],
        env=environment,
        cwd=environment["HOME"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # as at a terminal
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interruption_at_any_moment_is_one_sentence(environment: dict[str, str], command: str) -> None:
    whole = run(command, environment)
    assert whole.returncode == 0, whole.stderr
    modules = int(whole.stderr.split()[-1])
    assert modules > 10 * MOMENTS

    for at in (1, *range(modules // MOMENTS, modules + 1, modules // MOMENTS)):
        done = run(command, environment, at)
        said = done.stderr.splitlines()

        assert done.returncode == 130, (at, done.stderr)
        assert [line for line in said if not line.endswith(" ...")] == said[-1:], (at, done.stderr)
        assert said[-1].startswith("morpheus: Interrupted. "), (at, done.stderr)


def test_before_anything_is_begun_the_sentence_says_so(environment: dict[str, str]) -> None:
    for number, word in ((signal.SIGINT, "Interrupted"), (signal.SIGTERM, "Terminated")):
        done = run("plant local", environment, 1, number)

        said = f"morpheus: {word}. Nothing was changed.\n"
        assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", said)


def test_a_command_whose_interruptions_are_ignored_goes_on(environment: dict[str, str]) -> None:
    """As shells have it for what runs in their background."""
    signal_before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, "1", str(int(signal.SIGINT)), "list"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        signal.signal(signal.SIGINT, signal_before)

    assert (done.returncode, done.stderr) == (0, "")
