"""The ends of files that programs write and put aside when they are large."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from morpheus.cli.lines import Lines
from morpheus.errors import MachineError

EVERY = 0.2  # seconds between two looks
PIECE = 64 * 1024  # bytes
LONGEST = 16 * 2**20  # bytes of which the last lines are taken


class Tail:
    """A file of the node *name*, and where it was read to; it may come, and be replaced, at any time."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self._path = name, path
        self._inode = self._at = 0
        self._lines = Lines()

    def last(self, count: int) -> list[str]:
        """The last *count* lines that are there; none when the file is not.

        Raises:
            MachineError: it cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                self._inode = os.fstat(file.fileno()).st_ino
                self._at = start = file.seek(0, os.SEEK_END)
                data = b""
                while start > 0 and data.count(b"\n") <= count and self._at - start < LONGEST:
                    start = max(0, start - PIECE)
                    file.seek(start)
                    data = file.read(self._at - start)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise MachineError(f"Cannot read {self._path}: {error.strerror or error}.") from error
        whole = self._lines.of(data)
        return whole[-count:] if count else []

    def rest(self) -> list[str]:
        """A line that was begun, for who does not wait for its end."""
        return self._lines.of(b"", final=True)

    def new(self) -> list[str]:
        """The lines since; of a file that took the place of another one all of them."""
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_ino != self._inode or found.st_size < self._at:
                    self._inode, self._at, self._lines = found.st_ino, 0, Lines()
                file.seek(self._at)
                data = file.read(LONGEST)
        except OSError:  # it is not there (yet), or is being put aside
            return []
        self._at += len(data)
        return self._lines.of(data)


def follow(tails: Sequence[Tail]) -> Iterator[tuple[str, str]]:
    """The lines that are written from now on, with the names of their nodes; without an end."""
    while True:
        for tail in tails:
            yield from ((tail.name, line) for line in tail.new())
        time.sleep(EVERY)
