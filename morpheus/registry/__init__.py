"""The registry: one document that every device and scheduler shares, changed by compare-and-set only.

A Store keeps the text and the promise that of two writers one wins and the other is told. The Registry
above it owns the meaning: the retry on conflict exists here and nowhere else, every write has an id by
which a lost answer is settled, and a document that must not be trusted is refused.
"""

import contextlib
import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple, Protocol

from morpheus.errors import (
    RegistryBrokenError,
    RegistryConflictError,
    RegistryMovedError,
    RegistryNewerError,
    StoreBusyError,
    TransientError,
    UnwrittenError,
)
from morpheus.forest import Forest
from morpheus.registry import document as documents
from morpheus.registry.document import Document

log = logging.getLogger("morpheus.registry")

KEPT_BACKUPS = 20
RESTORE = "morpheus registry restore"  # the command that puts a backup back
FOLLOW = (  # what to do about a registry that was moved
    "set registry.type and registry.url to that place on every device, and username and password where they "
    "are others (morpheus config set)"
)
SECRETS, READINGS = "secrets", "readings"  # where the documents beside the registry stand, one per forest
BESIDE = (READINGS, SECRETS)
UPDATE_TIMEOUT = 60.0  # seconds of losing against other writers before giving up
LOST_REVISION_GAP = 1000


class Snapshot(NamedTuple):
    """What a store held at one moment; ``text`` and ``version`` are None where nothing is stored yet."""

    text: str | None
    version: str | None
    now: datetime


class Backup(NamedTuple):
    """A replaced text; ``where`` is a path or URL that a person can open.

    ``restore`` is the command that puts it back, or says how.
    """

    where: str
    text: str
    restore: str


class Store(Protocol):
    """Keeps one text. Between two writers one wins and the other is told, whoever sleeps or dies."""

    @property
    def url(self) -> str:
        """Where the text stands, without credentials."""

    def read(self) -> Snapshot:
        """Return the newest text, never a torn one. ``now`` is the store's time, in UTC."""

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        """Replace the text and return its version, when its version still is *expected* (None: absent).

        The replaced text is kept when *backup* is set, the newest 20 of them. *over* is the text of another
        program (:meth:`foreign`) that this write answers, and so may replace.

        Raises:
            RegistryConflictError: another version stands there; nothing was changed.
            RegistryBrokenError: another program's text stands in the way.
            UnwrittenError: nothing was changed; the same may succeed in a moment.
            TransientError: the outcome may be unknown; read to find out.
        """

    def remove(self, expected: str) -> None:
        """Remove the text, with all that it replaced, when its version still is *expected*.

        Afterwards nothing is stored, as before the first write; its name is free for another text. Only for
        documents beside the registry.

        Raises:
            RegistryConflictError: another version stands there; nothing was changed.
            TransientError: the outcome may be unknown; read to find out.
        """

    def turn(self) -> AbstractContextManager[None]:
        """Keep other writers waiting while the block runs, where that is possible; nothing relies on it."""

    def beside(self) -> Sequence[str]:
        """Return the names of the documents that stand beside this one, such as ``secrets/oak``."""

    def foreign(self) -> str | None:
        """Return what another program wrote where the store publishes its text; None where all is ours."""

    def backups(self) -> Sequence[Backup]:
        """Return the kept texts, newest first."""


Change = Callable[[Document, datetime], Document]


class Registry:
    """The document in a store, read and changed as a whole."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def url(self) -> str:
        return self._store.url

    def read(self) -> Document:
        """Return the document; an empty one where none was ever written.

        Raises:
            RegistryBrokenError: it cannot be read or trusted; names the newest good backup.
        """
        return self._load(self._snapshot())

    def find(self, name: str) -> Forest | None:
        return self.read().forests.get(name)

    def now(self) -> datetime:
        """The store's time: what leases and cooldowns are measured by."""
        return self._snapshot().now

    def update(self, change: Change) -> Document:
        """Replace the document by ``change(document, now)``, asked again after every lost race.

        *change* must be pure: it may be called many times. What it raises ends the update with nothing
        written. An unchanged document is not written.
        """
        import tenacity  # noqa: PLC0415  # reading commands never need it

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((RegistryConflictError, TransientError)),
            wait=tenacity.wait_random_exponential(multiplier=0.01, max=0.5),
            stop=tenacity.stop_after_delay(UPDATE_TIMEOUT),
            reraise=True,
        )
        mine: dict[str, int] = {}
        return attempts(self._update_once, change, mine)

    def _update_once(self, change: Change, mine: dict[str, int]) -> Document:
        """One read, decision and write; *mine* holds the ids of writes whose answer may have been lost.

        Beside each stands the revision that it would have made.
        """
        # Whose answer was lost looks at once: while others have their turns, the ids are forgotten.
        with contextlib.nullcontext() if mine else self._store.turn():
            return self._update_in_turn(change, mine)

    def _update_in_turn(self, change: Change, mine: dict[str, int]) -> Document:
        snapshot = self._snapshot()
        before = self._load(snapshot)
        if mine.keys() & set(before.writes):
            return before
        for write, made in list(mine.items()):
            if before.revision - made >= documents.REMEMBERED_WRITES:
                raise RegistryBrokenError(
                    f"No answer came to a change of {self.url}, and so many others followed that nobody can "
                    "tell whether it happened: look with morpheus status, and run the command again if not."
                )
            if before.revision >= made:  # another write took its place
                del mine[write]
        after = change(before, snapshot.now)
        if after == before:
            return before
        write = uuid.uuid4().hex
        stamped = replace(
            after,
            registry_id=before.registry_id or after.registry_id or uuid.uuid4().hex,
            revision=before.revision + 1,
            updated_at=snapshot.now,
            writes=(*before.writes, write)[-documents.REMEMBERED_WRITES :],
        )
        text = documents.render(stamped)
        self._check(text)
        mine[write] = stamped.revision
        keep = snapshot.text is not None and before.bare() != after.bare()
        try:
            self._store.write(text, snapshot.version, backup=keep)
        except (RegistryConflictError, UnwrittenError):
            del mine[write]  # it did not happen
            raise
        return stamped

    def _snapshot(self) -> Snapshot:
        try:
            return self._store.read()
        except RegistryBrokenError as error:
            raise RegistryBrokenError(f"{str(error).rstrip('.')}; {self._hint()}") from error

    def _hint(self) -> str:
        try:
            good = self._newest_good_backup()
        except RegistryNewerError:
            raise
        except RegistryBrokenError:
            return "its backups cannot be read either."
        if good is None:
            return "there is no good backup."
        return f"put the newest good backup back: {good[0].restore}"

    def _load(self, snapshot: Snapshot) -> Document:
        if snapshot.text is None:
            if good := self._newest_good_backup():
                if self._store.read().text is not None:  # the first writes of others came in between
                    raise StoreBusyError(f"The registry {self.url} was just made by another program.")
                raise RegistryBrokenError(
                    f"The registry {self.url} is gone, but there are backups of it: remove them to begin "
                    f"anew, or put the newest good one back: {good[0].restore}"
                )
            return Document()
        try:
            document = self._restored(_parse(snapshot.text, self.url))
        except RegistryNewerError:
            raise
        except RegistryBrokenError as error:
            raise RegistryBrokenError(
                f"The registry {self.url} must not be used: {error}; {self._hint()}"
            ) from error
        if document.moved_to:
            raise RegistryMovedError(f"The registry {self.url} was moved to {document.moved_to}: {FOLLOW}.")
        return document

    def _check(self, text: str) -> None:
        """Raise RegistryBrokenError when *text*, which is about to be written, could not be read again."""
        try:
            documents.parse(text)
        except RegistryBrokenError as error:
            raise RegistryBrokenError(
                f"The registry {self.url} cannot be changed any more: {error}; correct that in it."
            ) from error

    def _restored(self, document: Document) -> Document:
        """Give back what another writer dropped, from the newest good backup.

        Raises:
            RegistryBrokenError: it lists nothing although the newest backup lists forests.
        """
        if documents.is_ours(document):
            return document
        good = self._newest_good_backup()
        if good is None:
            return document
        _, backup = good
        if not document.forests and backup.forests:
            raise RegistryBrokenError("another program emptied it while forests were recorded")
        forests = {
            name: _with_memory(forest, backup.forests.get(name)) for name, forest in document.forests.items()
        }
        return replace(
            document,
            forests=forests,
            registry_id=document.registry_id or backup.registry_id,
            revision=document.revision or backup.revision + LOST_REVISION_GAP,
            epochs={**backup.epochs, **document.epochs},
        )

    def _newest_good_backup(self) -> tuple[Backup, Document] | None:
        for backup in self._store.backups():
            try:
                return backup, _parse(backup.text, backup.where)
            except RegistryNewerError:  # an older one lacks what stands in it
                raise
            except RegistryBrokenError:
                log.debug("the backup %s is broken too", backup.where)
        return None


def _parse(text: str, where: str) -> Document:
    try:
        return documents.parse(text)
    except RegistryNewerError as error:
        raise RegistryNewerError(
            f"{where} was written by a newer Morpheus ({error}): update this one."
        ) from error


def _with_memory(forest: Forest, backup: Forest | None) -> Forest:
    """*forest* with what its *backup* remembers and it lost: used numbers, reserved names, its first run."""
    if backup is None or "used_numbers" in forest.extra:
        return forest
    known = {node.name for node in forest.nodes}
    missing = (node for node in backup.nodes if node.name not in known and (not node.ip or node.leaving))
    numbers = {*backup.used_numbers, *(node.number for node in (*backup.nodes, *forest.nodes) if node.number)}
    nodes, run = (*forest.nodes, *missing), forest.run or backup.run  # by which its secrets know it
    return replace(forest, nodes=nodes, used_numbers=tuple(sorted(numbers)), run=run)
