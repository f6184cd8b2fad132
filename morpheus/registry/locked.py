"""A registry on a WebDAV server whose locks exclude, but not its MOVE: LOCK around a comparison and a write.

Weaker than revisions: an upload that stalls in its middle for longer than the lock lasts still lands, over
what others wrote meanwhile. Servers that move a collection into place only once never get here.
"""

import contextlib
import hashlib
import logging
import random
import threading
import time
from collections.abc import Iterator, Sequence

from morpheus.errors import RegistryBrokenError, RegistryConflictError, StoreBusyError, TransientError
from morpheus.registry import KEPT_BACKUPS, RESTORE, Backup, Snapshot
from morpheus.registry.dav import Dav, MissingCollectionError

log = logging.getLogger("morpheus.registry")

LOCK_TIMEOUT = 30  # seconds; who dies with the lock blocks the others for as long


class Locked:
    """The mechanism: the document itself, its backups in ``<name>.backups/``."""

    def __init__(self, dav: Dav, name: str) -> None:
        self._dav, self._name = dav, name
        self._mine = threading.local()  # the lock that this thread holds

    @property
    def url(self) -> str:
        return self._dav.url(self._file)

    @property
    def _file(self) -> str:
        return f"{self._name}.json"

    def named(self, name: str) -> "Locked":
        """The same for another document."""
        return Locked(self._dav, name)

    def read(self) -> Snapshot:
        answer = self._dav.get(self._file)
        if not answer.found or not answer.body:  # a lock on nothing makes an empty file
            return Snapshot(None, None, answer.now)
        return Snapshot(answer.body.decode(errors="surrogateescape"), _version(answer.body), answer.now)

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        del over
        with self.turn():
            found = self.read()
            if found.version != expected:
                raise RegistryConflictError(f"Another writer changed {self.url} at the same time.")
            if backup and found.text is not None:
                self._keep(found.text)
            body = text.encode()
            if not self._dav.put(self._file, body, {"If": f"(<{self._mine.token}>)"}):
                raise RegistryConflictError(f"The lock of {self.url} ended before the write.")
            return _version(body)

    def remove(self, expected: str) -> None:
        with self.turn():
            if self.read().version != expected:
                raise RegistryConflictError(f"Another writer changed {self.url} at the same time.")
            self._dav.delete(f"{self._name}.backups/")
            self._dav.delete(self._file, {"If": f"(<{self._mine.token}>)"})

    def foreign(self) -> str | None:
        return None

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        if getattr(self._mine, "token", None):
            yield
            return
        self._mine.token = self._locked()
        try:
            yield
        finally:
            token, self._mine.token = self._mine.token, None
            with contextlib.suppress(TransientError, RegistryBrokenError):  # it ends by itself
                self._dav.unlock(self._file, token)

    def _locked(self) -> str:
        deadline = time.monotonic() + LOCK_TIMEOUT
        pause = 0.01
        while time.monotonic() < deadline:
            try:
                token = self._dav.lock(self._file, LOCK_TIMEOUT)
            except MissingCollectionError:
                self._dav.make_collections(self._name.rpartition("/")[0])
                continue
            if token:
                return token
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311  # spreads the waiting
            pause = min(pause * 1.5, 0.2)
        raise StoreBusyError(f"Another program held the lock of {self.url} for {LOCK_TIMEOUT} s; try again.")

    def _numbers(self) -> list[int]:
        names, _ = self._dav.children(f"{self._name}.backups/")
        stems = (name.removesuffix(".json") for name in names or [])
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def _backup(self, number: int) -> str:
        return f"{self._name}.backups/{number}.json"

    def _keep(self, text: str) -> None:
        numbers = self._numbers()
        number = numbers[-1] + 1 if numbers else 1
        try:
            self._dav.put(self._backup(number), text.encode())
        except MissingCollectionError:
            self._dav.make_collections(f"{self._name}.backups")
            self._dav.put(self._backup(number), text.encode())
        for old in numbers[: 1 - KEPT_BACKUPS]:
            self._dav.delete(self._backup(old))

    def backups(self) -> Sequence[Backup]:
        found: list[Backup] = []
        for number in reversed(self._numbers()):
            answer = self._dav.get(self._backup(number))
            if answer.found:
                where, command = self._dav.url(self._backup(number)), f"{RESTORE} {len(found) + 1}"
                found.append(Backup(where, answer.body.decode(errors="replace"), command))
        return found


def _version(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
