"""Stand-ins that obey the same contracts as the real things: tests/contracts holds them to it."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from morpheus.errors import RegistryConflictError
from morpheus.registry import KEPT_BACKUPS, Backup, Snapshot


def utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryStore:
    """A store in memory; *clock* is the time it tells, which need not be the time of its users."""

    def __init__(self, name: str = "fake", *, clock: Callable[[], datetime] = utc_now) -> None:
        self.url = f"memory:///{name}.json"
        self.others: dict[str, MemoryStore] = {}
        self.clock = clock
        self._lock = threading.Lock()
        self._versions = itertools.count(1)
        self._text: str | None = None
        self._version: str | None = None
        self._backups: list[Backup] = []

    def read(self) -> Snapshot:
        with self._lock:
            return Snapshot(self._text, self._version, self.clock())

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        with self._lock:
            if self._version != expected:
                raise RegistryConflictError(f"Another writer changed {self.url} at the same time.")
            if backup and self._text is not None:
                where = f"{self.url}.backups/{self._version}"
                self._backups.insert(0, Backup(where, self._text, f"copy {where} to {self.url}"))
                del self._backups[KEPT_BACKUPS:]
            self._text, self._version = text, str(next(self._versions))
            return self._version

    def remove(self, expected: str) -> None:
        with self._lock:
            if self._version is None or self._version != expected:
                raise RegistryConflictError(f"Another writer changed {self.url} at the same time.")
            self._text = self._version = None
            self._backups.clear()

    def turn(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def place(self, name: str | None = None) -> "MemoryStore":
        """This store, or the one of the document *name* beside it."""
        return self.others.setdefault(name, MemoryStore(name)) if name else self

    def beside(self) -> Sequence[str]:
        return sorted(name for name, store in self.others.items() if store.read().text is not None)

    def foreign(self) -> str | None:
        return None

    def backups(self) -> Sequence[Backup]:
        with self._lock:
            return list(self._backups)

    def put(self, text: str) -> None:
        """Replace the text as another program does it: without asking."""
        self.write(text, self.read().version, backup=False)
