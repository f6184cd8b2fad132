"""Turns of writers on a WebDAV server: a courtesy that keeps them from colliding. Nothing relies on it."""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Iterator

from morpheus.errors import RegistryBrokenError, StoreBusyError, TransientError
from morpheus.registry.dav import Dav

log = logging.getLogger("morpheus.registry")

TURN_TIMEOUT = 10  # seconds after which a server ends the lock of one who died
TURN_PATIENCE = 5.0  # seconds to wait for a turn; ten writers take three


class Turns:
    """The turns at one path of the server.

    Args:
        dav: the server.
        path: what is locked.
        locks: whether the server has locks; without them everybody writes when they like.
    """

    def __init__(self, dav: Dav, path: str, *, locks: bool) -> None:
        self._dav, self._path, self._locks = dav, path, locks
        self._mine = threading.local()  # the lock that this thread holds
        self._no_turn_until = 0.0

    @contextlib.contextmanager
    def taken(self, *, safe: bool) -> Iterator[None]:
        """Keep other writers waiting while the block runs, if the server can.

        Some servers make an empty file when what they lock is not there: then it is not *safe*.
        """
        self._mine.token = self._locked() if self._locks and safe else None
        try:
            yield
        finally:
            self._unlocked()

    @contextlib.contextmanager
    def alone(self) -> Iterator[str | None]:
        """While the block runs keep others out, where the server can; the lock's token, if any.

        Raises:
            StoreBusyError: another program has the lock.
        """
        if not self._locks:
            yield None
            return
        token = getattr(self._mine, "token", None)
        if token:
            yield token
            return
        token = self._mine.token = self._dav.lock(self._path, TURN_TIMEOUT)
        try:
            if token is None:
                raise StoreBusyError("another program is writing to it")
            yield token
        finally:
            self._unlocked()

    def _locked(self) -> str | None:
        """A token, or None where there is none to be had; who stands still with it is waited for once."""
        if time.monotonic() < self._no_turn_until:
            return None
        deadline = time.monotonic() + TURN_PATIENCE
        pause = 0.01
        while time.monotonic() < deadline:
            try:
                token = self._dav.lock(self._path, TURN_TIMEOUT)
            except (TransientError, RegistryBrokenError) as error:
                log.debug("no turns at %s: %s", self._dav.url(self._path), error)
                return None
            if token is not None:
                return token
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311  # spreads the waiting
            pause = min(pause * 1.5, 0.1)
        self._no_turn_until = time.monotonic() + TURN_TIMEOUT - TURN_PATIENCE  # until it ends by itself
        return None

    def _unlocked(self) -> None:
        token, self._mine.token = getattr(self._mine, "token", None), None
        if token:
            with contextlib.suppress(TransientError, RegistryBrokenError):
                self._dav.unlock(self._path, token)
