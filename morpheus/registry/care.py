"""What a person does to a registry by hand: check it, put a backup back, free a forest, move it elsewhere."""

import contextlib
import functools
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    RegistryMovedError,
    RegistryNewerError,
    StopError,
)
from morpheus.registry import FOLLOW, LOST_REVISION_GAP, Registry, Snapshot, Store
from morpheus.registry import document as documents
from morpheus.registry.document import Document
from morpheus.registry.lease import Claim, Hold, ended

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
    """What a check found. ``faults`` is empty when all is well, ``empty`` where nothing was ever written.

    ``moved_to`` is the address of its successor, where it has one.
    """

    url: str
    empty: bool
    revision: int
    forests: int
    nodes: int
    backups: int
    faults: tuple[str, ...]
    moved_to: str | None = None


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
        faults.append(f"it was moved to {document.moved_to}: {FOLLOW}")
    kept = backups(store)
    faults += [f"the backup {each.where} cannot be used" for each in kept if each.document is None]
    if text is not None and not faults and not documents.is_ours(document):
        faults.append("another program wrote it last; what it dropped comes back with our next write")
    nodes = sum(len(forest.nodes) for forest in document.forests.values())
    return Report(
        store.url,
        text is None,
        document.revision,
        len(document.forests),
        nodes,
        len(kept),
        tuple(faults),
        document.moved_to,
    )


def forgotten(now: Document, then: Document) -> tuple[str, ...]:
    """The nodes that *now* records and *then* does not, and the forests of which nothing would be left."""
    known = {node.name for forest in then.forests.values() for node in forest.nodes}
    nodes = [node.name for forest in now.forests.values() for node in forest.nodes if node.name not in known]
    empty = [name for name, forest in now.forests.items() if not forest.nodes and name not in then.forests]
    return (*nodes, *empty)


def restore(store: Store, number: int | None, *, force: bool) -> Document:
    """Make backup *number* (1 is the newest) the registry again; None: our newest state, over a foreign one.

    Raises:
        RefusedError: nodes that are recorded now, here or in another program's text, would be forgotten, and
            *force* was not given.
        RegistryMovedError: the registry was moved, and *force* was not given.
    """
    text, foreign = _chosen(store, number)
    return _replaced(store, text, over=foreign, force=force)


def restorable(store: Store, number: int | None, *, force: bool) -> Document:
    """What :func:`restore` would put back; raises what it would. Nothing is written."""
    text, foreign = _chosen(store, number)
    wanted = documents.parse(text)
    _check_replaceable(store, wanted, over=foreign, force=force)
    return wanted


def _chosen(store: Store, number: int | None) -> tuple[str, str | None]:
    """The text of backup *number*, or our newest one, and another program's in its place."""
    foreign = store.foreign()
    if number is None:
        text = store.read().text
        if text is None or foreign is None:
            raise InvalidInputError("Say which backup: morpheus registry backups lists them.")
        return text, foreign
    kept = store.backups()
    if not 1 <= number <= len(kept):
        raise InvalidInputError(f"There is no backup {number}; morpheus registry backups lists them.")
    return kept[number - 1].text, foreign


def adopt(store: Store, *, force: bool) -> Document:
    """Take over what another program wrote in the place of the published copy.

    Raises:
        InvalidInputError: there is nothing of the kind.
        RefusedError, RegistryMovedError: as :func:`restore`.
    """
    text = store.foreign()
    if text is None:
        raise InvalidInputError(f"Nobody else changed {store.url}: there is nothing to adopt.")
    try:
        return _replaced(store, text, over=text, force=force)
    except RegistryNewerError:
        raise
    except RegistryBrokenError as error:
        raise RegistryBrokenError(
            f"It cannot be adopted, for {error}: correct it, or put ours back with morpheus registry restore."
        ) from error


def _replaced(store: Store, text: str, *, over: str | None, force: bool) -> Document:
    """Write *text* as a new revision, with the registry id, the epochs and the writes that there were.

    Leases are ended: who takes a forest next waits for what its holder may have begun.
    """
    with store.turn():
        return _replaced_in_turn(store, documents.parse(text), over=over, force=force)


def _replaced_in_turn(store: Store, wanted: Document, *, over: str | None, force: bool) -> Document:
    snapshot, known = _check_replaceable(store, wanted, over=over, force=force)
    epochs = {
        name: max(known.epochs.get(name, 0), wanted.epochs.get(name, 0)) + 1
        for name in {*known.epochs, *wanted.epochs}
    }
    gap = 1 if readable(snapshot.text) or snapshot.text is None else LOST_REVISION_GAP
    leases = {name: ended(forest.lease, snapshot.now) for name, forest in known.forests.items()}
    writes = dict.fromkeys((*wanted.writes, *known.writes, uuid.uuid4().hex))
    restored = replace(
        wanted,
        forests={name: replace(each, lease=leases.get(name)) for name, each in wanted.forests.items()},
        registry_id=known.registry_id or wanted.registry_id or uuid.uuid4().hex,
        revision=max(known.revision, wanted.revision) + gap,
        epochs=epochs,
        writes=tuple(writes)[-documents.REMEMBERED_WRITES :],
        updated_at=snapshot.now,
        moved_to=None,
    )
    store.write(documents.render(restored), snapshot.version, backup=snapshot.text is not None, over=over)
    return restored


def _check_replaceable(
    store: Store, wanted: Document, *, over: str | None, force: bool
) -> tuple[Snapshot, Document]:
    """What stands in *store*, and the newest of it that can be read, if *wanted* may take its place."""
    snapshot = store.read()
    current = readable(snapshot.text)
    known = current or next((each.document for each in backups(store) if each.document), Document())
    if not force:
        _check_moved(current, store.url)
        _check_forgotten((known, readable(over) or Document()), wanted)
    return snapshot, known


def _check_moved(current: Document | None, url: str) -> None:
    if current and current.moved_to:
        raise RegistryMovedError(
            f"The registry {url} was moved to {current.moved_to}, and two would say different things: use "
            "that one, or add --force when it is gone for good."
        )


def _check_forgotten(known: Sequence[Document], wanted: Document) -> None:
    gone = dict.fromkeys(name for each in known for name in forgotten(each, wanted))
    if gone:
        raise RefusedError(
            f"It knows nothing of {', '.join(gone)}, which may still exist and would be forgotten: tear that "
            "down first, or add --force."
        )


def unlock(registry: Registry, name: str, *, force: bool) -> str:
    """Free the forest *name* from a lease whose holder is gone; what was done, in a sentence.

    The epoch is raised, so that a holder who lives after all stops at its next look; what it began until
    then has ended before the next one acts.

    Raises:
        ForestBusyError: the holder may be alive, and *force* was not given.
    """
    forest = registry.find(name)
    if forest is None:
        raise ForestNotFoundError(f"There is no forest {name} in {registry.url}.")
    if forest.lease is None:
        return f"{name} is held by nobody."
    if forest.lease.expires <= registry.now() and not force:
        return f"{name} is held by nobody any more: whoever takes it next waits for what was begun."
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
        return replace(document.with_forest(replace(held, lease=ended(held.lease, now))), epochs=epochs)

    after = registry.update(freed).forests.get(name)
    wait = "; who takes it next waits for what that one may have begun" if after and after.lease else ""
    return f"{name} was held by {holder} and is free now{wait}."


def migrate(source: Place, target: Place) -> Document:
    """Move a registry and the documents beside it.

    Every forest is held meanwhile, and until the source is sealed the copy is sealed itself: at no time do
    two registries take writes, and no migrator that slept sets back the one that was moved. Running it again
    completes a migration that was interrupted.

    Raises:
        RefusedError: something else stands at the target.
    """
    old, new = source(None), target(None)
    known = readable(old.read().text)
    if known and known.moved_to == new.url:
        return _opened(new, old.url)
    registry = Registry(old)
    for _ in range(MOVE_TRIES):
        with _all_held(registry) as holds:
            document = registry.read()
            _copy(document, source, target)
            seal = functools.partial(_sealed, copied=document, url=new.url, holds=holds)
            with contextlib.suppress(_ChangedError):
                registry.update(seal)
                return _opened(new, old.url)
    raise RegistryConflictError(f"{registry.url} kept changing while it was moved: run it again.")


@contextlib.contextmanager
def _all_held(registry: Registry) -> Iterator[Mapping[str, Hold]]:
    """Hold every forest, so that no operation is under way."""
    run = uuid.uuid4().hex
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                Hold(registry, Claim(name, "migrate", run), lambda document, _: document, margin=0.0)
            )
            for name in registry.read().forests
        }


def _copy(document: Document, source: Place, target: Place) -> None:
    """Write *document* to *target*, sealed and without leases, and what stands beside it.

    Raises:
        RefusedError: something else stands there.
    """
    old, new = source(None), target(None)
    there = new.read()
    known = readable(there.text)
    revision = document.revision
    if there.text is not None:
        same = known and known.registry_id == document.registry_id and known.moved_to
        if not known or not same or known.revision > document.revision:
            raise RefusedError(
                f"Another registry stands at {new.url}: nothing was moved. Choose an empty place."
            )
        revision += 1
    else:
        for name in old.beside():
            if target(name).read().text not in {None, source(name).read().text}:
                raise RefusedError(
                    f"Another {name} stands beside {new.url}: nothing was moved. Choose an empty place."
                )
    free = {name: replace(forest, lease=None) for name, forest in document.forests.items()}
    copy = replace(document, forests=free, revision=revision, moved_to=old.url)
    _put(new, documents.render(copy), there, backup=there.text is not None)
    for name in old.beside():
        if (text := source(name).read().text) is not None:
            _put(target(name), text, target(name).read(), backup=False)  # of secrets nothing old stays


def _put(store: Store, text: str, there: Snapshot, *, backup: bool) -> None:
    """Write *text* in the place of what was *there*, and read it back."""
    if there.text == text:
        return
    store.write(text, there.version, backup=backup)
    if store.read().text != text:
        raise RegistryBrokenError(f"{store.url} gives back another text than was written: nothing was moved.")


def _sealed(
    document: Document, now: datetime, *, copied: Document, url: str, holds: Mapping[str, Hold]
) -> Document:
    """*document* with the address of its successor, if it is what was copied and all of it is held."""
    del now
    if document.bare() != copied.bare():
        raise _ChangedError
    for hold in holds.values():
        hold.confirm(document)
    return replace(document, moved_to=url)


def _opened(store: Store, old: str) -> Document:
    """Let writers into *store*, which took the place of *old*."""
    there = store.read()
    copy = readable(there.text)
    if copy is None:
        raise RegistryBrokenError(
            f"The registry was moved to {store.url}, but nothing that can be read stands there; its text is "
            f"still at {old}: morpheus registry restore 1 --force puts it back there."
        )
    if copy.moved_to is None:
        return copy
    writes = (*copy.writes, uuid.uuid4().hex)[-documents.REMEMBERED_WRITES :]
    opened = replace(copy, moved_to=None, revision=copy.revision + 1, writes=writes)
    store.write(documents.render(opened), there.version, backup=False)
    return opened


class _ChangedError(StopError):
    """The registry changed while it was copied."""
