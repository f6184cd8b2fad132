"""A command at a terminal: what it asks there, and what a person types."""

import contextlib
import os
import pty
import select
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path


class Terminal:
    """``morpheus`` with these *words* at a terminal of its own; ``shown`` is all since the last answer."""

    def __init__(
        self, *words: str, environment: Mapping[str, str] = os.environ, folder: Path | None = None
    ) -> None:
        self.shown = ""
        program = str(Path(sys.executable).with_name("morpheus"))
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs the tests may ignore it
            os.chdir(folder or Path.cwd())
            os.execve(program, [program, *words], {**environment, "TERM": "dumb", "COLUMNS": "200"})

    def expect(self, text: str, timeout: float = 60) -> str:
        """Everything shown since the last answer, once *text* is in it."""
        end = time.monotonic() + timeout
        while text not in self.shown:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} was not shown, but: {self.shown}"
            with contextlib.suppress(OSError):
                if read := os.read(self.fd, 65536):
                    self.shown += read.decode(errors="replace")
                    continue
            raise AssertionError(f"it ended without {text!r}: {self.shown}")
        return self.shown

    def answer(self, text: str) -> None:
        self.shown = ""
        os.write(self.fd, f"{text}\n".encode())

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self) -> int:
        with contextlib.suppress(OSError):
            while read := os.read(self.fd, 65536):
                self.shown += read.decode(errors="replace")
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
