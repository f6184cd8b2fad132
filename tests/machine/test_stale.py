"""Whether a program runs as it is to: asked of the running process itself."""

import sys
from pathlib import Path

from morpheus.machine import Program, is_stale
from morpheus.machine.local import LocalMachine
from tests.machine.conftest import NAME

SLEEPER = (sys.executable, "-c", "import signal; signal.pause()")


def test_one_that_was_started_with_something_else_is_stale(folder: Path) -> None:
    machine = LocalMachine("oak-node-1", folder)
    was, is_to_be = (Program(NAME, SLEEPER, {"SUM": text, "SAME": "same"}) for text in ("1", "2"))

    before = is_stale(machine, is_to_be)
    machine.start(was)

    assert before is False  # it does not run
    assert is_stale(machine, was) is False
    assert is_stale(machine, is_to_be) is True
