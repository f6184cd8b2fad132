"""A command at a terminal: what it asks there, and what a person types."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.nats.grove import wait_for


class Command:
    """``morpheus`` with these *words* at a terminal of its own; stdout is read there as well."""

    def __init__(self, *words: str, environment: Mapping[str, str]) -> None:
        self._terminal, inside = os.openpty()
        self._heard = b""
        self.process = subprocess.Popen(
            [str(Path(sys.executable).with_name("morpheus")), *words],
            env=dict(environment),
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
        )
        os.close(inside)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # nobody is at the other end any more
            while heard := os.read(self._terminal, 4096):
                self._heard += heard

    @property
    def said(self) -> str:
        """All that it said so far, and what was typed."""
        return self._heard.decode(errors="replace").replace("\r\n", "\n")

    def wait_asked(self, question: str) -> None:
        wait_for(lambda: self.said, lambda said: question in said)

    def type(self, line: str) -> None:
        os.write(self._terminal, f"{line}\n".encode())

    def ended(self) -> int:
        """The exit code, once it has ended."""
        code = wait_for(self.process.poll, lambda code: code is not None)
        self._listener.join(5)
        assert code is not None
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._listener.join(5)
        os.close(self._terminal)


@contextlib.contextmanager
def at_a_terminal(*words: str, environment: Mapping[str, str] = os.environ) -> Iterator[Command]:
    command = Command(*words, environment=environment)
    try:
        yield command
    finally:
        command.close()
