"""From one server to a cluster of three: what comes after what, what is undone, what is finished; pure.

A server that finds its store in a cluster deletes the streams in it. So three new stores are made, the old
server is fenced off from its programs, and what it holds is brought over. Until ``committed`` is recorded
nobody but this move can reach the new servers, so all of it can be undone and nothing is lost; afterwards
programs may have written there, so it can only be finished. The fence lifts itself on the machine when
nobody renews it, and the old server is stopped only while it holds: a move that stalled for longer finds its
archives outdated and begins anew. tests/morpheus/test_migration.py stops it everywhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from morpheus.errors import RefusedError
from morpheus.forest import Forest, Migration, Status, size_word

RESERVE = 1.1  # a tenth more than what is held is asked for


class Phase(StrEnum):
    """How far it is recorded to have come, always before what the word says is begun."""

    PREPARED = "prepared"  # new servers are made beside the old one, which serves as ever
    FENCED = "fenced"  # the old server takes nothing from programs, for as long as that is renewed
    RESTORED = "restored"  # all it held is in the cluster, and compared
    COMMITTED = "committed"  # the old server is stopped for good
    KEPT = "kept"  # the cluster serves; the old store is there for a while


class Act(StrEnum):
    """One thing to do; each may be done again."""

    PREPARE = "record that it is prepared"
    RAISE = "raise new servers that programs cannot enter"
    NOTE_FENCE = "record that it is fenced"
    FENCE = "fence the old server"
    SAVE = "save its streams"
    RESTORE = "restore them in the cluster"
    COMPARE = "compare them"
    NOTE_RESTORED = "record that they are restored"
    CLOSE = "stop the old server while its fence holds"
    COMMIT = "record that it is committed"
    OPEN = "let programs enter the new servers, one after another"
    SETTLE = "record that the old store is kept"
    LIFT = "let programs enter the old server"
    REMOVE = "remove the new servers and their stores"
    FORGET = "record that nothing was moved"


MOVE = (
    *(Act.PREPARE, Act.RAISE, Act.NOTE_FENCE, Act.FENCE, Act.SAVE, Act.RESTORE, Act.COMPARE),
    *(Act.NOTE_RESTORED, Act.CLOSE, Act.COMMIT, Act.OPEN, Act.SETTLE),
)
UNDO = (Act.LIFT, Act.REMOVE, Act.FORGET)
FINISH = (Act.OPEN, Act.SETTLE)

_FOLLOWS = {
    None: Phase.PREPARED,
    Phase.PREPARED: Phase.FENCED,
    Phase.FENCED: Phase.RESTORED,
    Phase.RESTORED: Phase.COMMITTED,
    Phase.COMMITTED: Phase.KEPT,
}


def acts(migration: Migration | None) -> tuple[Act, ...]:
    """All that is to be done for a forest to be a cluster, from what is recorded."""
    phase = phase_of(migration)
    if phase is None:
        return MOVE
    if phase is Phase.KEPT:
        return ()
    return FINISH if phase is Phase.COMMITTED else (*UNDO, *MOVE)


def undoing(migration: Migration | None) -> tuple[Act, ...]:
    """What leaves the forest as it was, with one server; nothing where there is no move to undo.

    Raises:
        RefusedError: programs may have written into the cluster.
    """
    phase = phase_of(migration)
    if phase in {Phase.COMMITTED, Phase.KEPT}:
        raise RefusedError(
            "The streams are in the cluster, and programs may have written there since: that cannot be "
            "undone, only finished. Run morpheus grow again, by the forest's name."
        )
    return UNDO if phase else ()


def phase_of(migration: Migration | None) -> Phase | None:
    """How far it has come.

    Raises:
        RefusedError: by a word that this Morpheus does not know.
    """
    if migration is None:
        return None
    try:
        return Phase(migration.phase)
    except ValueError as error:
        raise RefusedError(
            f"The move of {migration.node} is {migration.phase!r}, which only a newer Morpheus knows how to "
            "go on from: nothing was changed. Use that one."
        ) from error


def is_moving(forest: Forest) -> bool:
    """Whether its streams are between the old server and the cluster."""
    return phase_of(forest.migration) not in {None, Phase.KEPT}


def check_moved(forest: Forest) -> None:
    """Return unless the streams of *forest* are on their way, when no server may be started as usual.

    Raises:
        RefusedError: they are.
    """
    if is_moving(forest):
        raise RefusedError(
            f"The streams of {forest.name} are on their way into a cluster: nothing was changed. Finish that "
            f"first with morpheus grow {forest.name}."
        )


def begun(forest: Forest, run: str, store: str, size: int, now: datetime) -> Forest:
    """*forest* once its move is prepared: into a new *store* on its node, which holds *size* bytes now."""
    _check_follows(forest, Phase.PREPARED)
    old = next(node for node in forest.staying if node.status == Status.ACTIVE)
    return replace(forest, migration=Migration(Phase.PREPARED, run, old.name, store, now, size))


def advanced(forest: Forest, phase: Phase) -> Forest:
    """*forest* once its move has come to *phase*.

    Raises:
        RefusedError: that phase does not follow the one that is recorded.
    """
    _check_follows(forest, phase)
    assert forest.migration
    return replace(forest, migration=replace(forest.migration, phase=phase))


def settled(forest: Forest, now: datetime, keep: timedelta) -> Forest:
    """*forest* once its cluster serves; the old store may go when *keep* is over."""
    after = advanced(forest, Phase.KEPT)
    assert after.migration
    return replace(after, migration=replace(after.migration, kept_until=now + keep))


def undone(forest: Forest) -> Forest:
    """*forest* once it is as it was before its move, whose servers are gone.

    Raises:
        RefusedError: it may not be undone any more.
    """
    if not undoing(forest.migration):
        return forest
    assert forest.migration
    kept = forest.without(*(node.name for node in forest.nodes if node.name != forest.migration.node))
    return replace(kept, migration=None, status=Status.ACTIVE, size=size_word(1))


def is_discardable(forest: Forest, now: datetime, *, asked: bool) -> bool:
    """Whether the old store of *forest* may go: its time is over, or somebody *asked* for it.

    Raises:
        RefusedError: somebody asked, and the streams are not all in the cluster yet.
    """
    migration = forest.migration
    if asked and is_moving(forest):
        raise RefusedError(
            f"The streams of {forest.name} are on their way, and the old store may be needed: nothing was "
            f"changed. Finish that first with morpheus grow {forest.name}."
        )
    if migration is None or migration.phase != Phase.KEPT:
        return False
    return asked or (migration.kept_until is not None and migration.kept_until <= now)


def old_store(forest: Forest) -> Migration | None:
    """The move of which the old store is kept on a node of *forest*; None where there is no such store."""
    migration = forest.migration
    if migration is None or migration.phase != Phase.KEPT:
        return None
    return migration if migration.node in {node.name for node in forest.nodes} else None


def discarded(forest: Forest) -> Forest:
    """*forest* once its old store is gone."""
    return replace(forest, migration=None)


def _check_follows(forest: Forest, phase: Phase) -> None:
    found = phase_of(forest.migration)
    if _FOLLOWS.get(found) is not phase:
        raise RefusedError(
            f"The move of {forest.name} is {found or 'not begun'}, and {phase} does not follow that: nothing "
            "was changed. Run morpheus grow again, by the forest's name."
        )


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes *free* in one place, such as a disk, and how many copies of the streams are to stand there.

    A machine gets a new store; the old one the archives as well; on one computer all of them share a disk.
    """

    name: str
    free: int
    copies: int


def check_room(forest: str, held: int, rooms: Iterable[Room]) -> None:
    """Return when each of *rooms* has place for its copies of the *held* bytes.

    Raises:
        RefusedError: one has not; says which, how much is needed, and how much there is.
    """
    lacking = [room for room in rooms if room.free < needed(held, room.copies)]
    if lacking:
        told = ", ".join(
            f"{_gib(needed(held, room.copies))} on {room.name} ({_gib(room.free)} are free)"
            for room in lacking
        )
        raise RefusedError(
            f"Moving the streams of {forest} into a cluster needs {told}: nothing was changed. Make room "
            "there, delete streams that nobody needs, or plant a forest of three beside it."
        )


def needed(held: int, copies: int) -> int:
    """Bytes for so many *copies* of what is *held*, and a tenth more."""
    return int(held * copies * RESERVE)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
