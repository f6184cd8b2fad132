"""What a person does to a registry by hand: check it, put a backup back, free a forest, move it elsewhere."""

import contextlib
import functools
import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime

from morpheus import host
from morpheus.errors import (
    ForestBusyError,
    ForestNotFoundError,
    InvalidInputError,
    RefusedError,
    RegistryBrokenError,
    RegistryConflictError,
    StopError,
)
from morpheus.registry import LOST_REVISION_GAP, Registry, Store
from morpheus.registry import document as documents
from morpheus.registry.document import Document
from morpheus.registry.lease import Claim, Hold

log = logging.getLogger("morpheus.registry")

MOVE_TRIES = 5

Place = Callable[[str | None], Store]
"""Where a registry stands (None), with the documents beside it by their names, such as ``secrets/oak``."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A backup: its place (1 is the newest), where it stands, what it holds (None: it cannot be read)."""

    number: int
    where: str
    document: Document | None


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found. ``faults`` is empty when all is well."""

    url: str
    revision: int
    forests: int
    nodes: int
    backups: int
    faults: tuple[str, ...]


def readable(text: str | None) -> Document | None:
    """The document in *text*; None where there is none."""
    if text is None:
        return None
    try:
        return documents.parse(text)
    except RegistryBrokenError:
        return None


def backups(store: Store) -> list[Kept]:
    return [
        Kept(number, backup.where, readable(backup.text))
        for number, backup in enumerate(store.backups(), start=1)
    ]


def check(store: Store) -> Report:
    """Read everything there is of a registry, and say what is wrong with it."""
    faults = []
    text = store.read().text
    document = Document()
    try:
        document = documents.parse(text) if text is not None else document
    except RegistryBrokenError as error:
        faults.append(f"the document cannot be used: {error}")
    if store.foreign() is not None:
        faults.append("another program changed the published copy: morpheus registry adopt or restore")
    if document.moved_to:
        faults.append(f"it was moved to {document.moved_to}, and nobody may use it any more")
    kept = backups(store)
    faults += [f"the backup {each.where} cannot be used" for each in kept if each.document is None]
    if text is not None and not faults and not documents.is_ours(document):
        faults.append("another program wrote it last; what it dropped comes back with our next write")
    nodes = sum(len(forest.nodes) for forest in document.forests.values())
    return Report(store.url, document.revision, len(document.forests), nodes, len(kept), tuple(faults))


def forgotten(now: Document, then: Document) -> tuple[str, ...]:
    """The nodes that *now* records and *then* does not, and the forests of which nothing would be left."""
    known = {node.name for forest in then.forests.values() for node in forest.nodes}
    nodes = [node.name for forest in now.forests.values() for node in forest.nodes if node.name not in known]
    empty = [name for name, forest in now.forests.items() if not forest.nodes and name not in then.forests]
    return (*nodes, *empty)


def restore(store: Store, number: int | None, *, force: bool) -> Document:
    """Make backup *number* (1 is the newest) the registry again; None: our newest state, over a foreign one.

    Raises:
        RefusedError: nodes that are recorded now would be forgotten, and *force* was not given.
    """
    if number is None:
        text = store.read().text
        if text is None or store.foreign() is None:
            raise InvalidInputError("Say which backup: morpheus registry backups lists them.")
        return _replaced(store, text, force=force)
    kept = store.backups()
    if not 1 <= number <= len(kept):
        raise InvalidInputError(f"There is no backup {number}; morpheus registry backups lists them.")
    return _replaced(store, kept[number - 1].text, force=force)


def adopt(store: Store, *, force: bool) -> Document:
    """Take over what another program wrote in the place of the published copy.

    Raises:
        InvalidInputError: there is nothing of the kind.
        RefusedError: as :func:`restore`.
    """
    text = store.foreign()
    if text is None:
        raise InvalidInputError(f"Nobody else changed {store.url}: there is nothing to adopt.")
    return _replaced(store, text, force=force)


def _replaced(store: Store, text: str, *, force: bool) -> Document:
    """Write *text* as a new revision: no leases, but the registry id and the epochs that there were."""
    snapshot, foreign = store.read(), store.foreign()
    wanted = documents.parse(text)
    current = readable(snapshot.text)
    known = current or next((each.document for each in backups(store) if each.document), Document())
    gone = forgotten(known, wanted)
    if gone and not force:
        raise RefusedError(
            f"It knows nothing of {', '.join(gone)}, which may still exist and would be forgotten: tear that "
            "down first, or add --force."
        )
    epochs = {
        name: max(known.epochs.get(name, 0), wanted.epochs.get(name, 0)) + 1
        for name in {*known.epochs, *wanted.epochs}
    }
    gap = 1 if current or snapshot.text is None else LOST_REVISION_GAP
    restored = replace(
        wanted,
        forests={name: replace(forest, lease=None) for name, forest in wanted.forests.items()},
        registry_id=known.registry_id or wanted.registry_id or uuid.uuid4().hex,
        revision=max(known.revision, wanted.revision) + gap,
        epochs=epochs,
        writes=(uuid.uuid4().hex,),
        updated_at=snapshot.now,
        moved_to=None,
    )
    store.write(documents.render(restored), snapshot.version, backup=snapshot.text is not None, over=foreign)
    return restored


def unlock(registry: Registry, name: str, *, force: bool) -> str:
    """Free the forest *name* from a lease whose holder is gone; what was done, in a sentence.

    The epoch is raised, so that a holder who lives after all stops before its next effect.

    Raises:
        ForestBusyError: the holder may be alive, and *force* was not given.
    """
    forest = registry.find(name)
    if forest is None:
        raise ForestNotFoundError(f"There is no forest {name} in {registry.url}.")
    if forest.lease is None:
        return f"{name} is held by nobody."
    holder = f"{forest.lease.holder} ({forest.lease.operation})"

    def freed(document: Document, now: datetime) -> Document:
        held = document.forests.get(name)
        if held is None or held.lease is None:
            return document
        until = f"{held.lease.expires:%H:%M:%S} UTC"
        if not force and held.lease.expires > now and not host.has_ended(held.lease.process):
            raise ForestBusyError(
                f"{name} is held by {holder} until {until} at least: wait, end that, or add --force when you "
                "know that it is gone."
            )
        epochs = {**document.epochs, name: document.epochs.get(name, 0) + 1}
        return replace(document.with_forest(replace(held, lease=None)), epochs=epochs)

    registry.update(freed)
    return f"{name} was held by {holder} and is free now."


def migrate(source: Place, target: Place) -> Document:
    """Move a registry and the documents beside it.

    Every forest is held meanwhile; the copy is read back; at last the source is sealed, so that whoever still
    uses it is told where the registry is now. Running it again completes a migration that was interrupted.

    Raises:
        RefusedError: something else stands at the target.
    """
    old, new = source(None), target(None)
    registry = Registry(old)
    for _ in range(MOVE_TRIES):
        with _all_held(registry):
            document = registry.read()
            copy = _unheld(document, new)
            for name in old.beside():
                _put(target(name), source(name).read().text)
            _put(new, documents.render(copy))
            seal = functools.partial(_sealed, copied=document, url=new.url)
            with contextlib.suppress(_ChangedError):
                return registry.update(seal)
    raise RegistryConflictError(f"{registry.url} kept changing while it was moved: run it again.")


@contextlib.contextmanager
def _all_held(registry: Registry) -> Iterator[None]:
    """Hold every forest, so that no operation is under way."""
    run = uuid.uuid4().hex
    with ExitStack() as holds:
        for name in registry.read().forests:
            claim = Claim(name, "migrate", run)
            holds.enter_context(Hold(registry, claim, lambda document, _: document, margin=0.0))
        yield


def _unheld(document: Document, target: Store) -> Document:
    """What *target* is to hold: *document* without leases.

    Raises:
        RefusedError: something else stands there.
    """
    free = {name: replace(forest, lease=None) for name, forest in document.forests.items()}
    copy = replace(document, forests=free, registry_id=document.registry_id or uuid.uuid4().hex)
    there = target.read().text
    known = readable(there)
    if there is not None and (known is None or known.registry_id != copy.registry_id or known.moved_to):
        raise RefusedError(
            f"Another registry stands at {target.url}: nothing was moved. Choose an empty place."
        )
    return copy


def _put(store: Store, text: str | None) -> None:
    """Write *text*, if there is any, and read it back."""
    there = store.read()
    if text is None or there.text == text:
        return
    store.write(text, there.version, backup=there.text is not None)
    if store.read().text != text:
        raise RegistryBrokenError(f"{store.url} gives back another text than was written: nothing was moved.")


def _sealed(document: Document, now: datetime, *, copied: Document, url: str) -> Document:
    """*document* with the address of its successor, if it is what was copied."""
    del now
    if document.bare() != copied.bare():
        raise _ChangedError
    return replace(document, moved_to=url)


class _ChangedError(StopError):
    """The registry changed while it was copied."""
