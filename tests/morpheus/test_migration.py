"""A single server becomes a cluster: stopped after any act and run again, nothing is lost or stays closed."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from morpheus.errors import RefusedError
from morpheus.forest import Forest, Migration, Node, Status
from morpheus.migration import (
    MOVE,
    UNDO,
    Act,
    Phase,
    Room,
    acts,
    advanced,
    begun,
    check_room,
    discarded,
    is_discardable,
    old_store,
    phase_of,
    settled,
    undoing,
    undone,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
OAK = Forest("oak", size="small", nodes=(Node("oak-node-1", "127.0.0.1", Status.ACTIVE),), used_numbers=(1,))
GROWN = replace(OAK.with_nodes(Node("oak-node-2"), Node("oak-node-3")), status=Status.GROWING)
NEW = (Phase.PREPARED, Phase.FENCED, Phase.RESTORED, Phase.COMMITTED, Phase.KEPT)


class FenceLiftedError(Exception):
    """The old server took messages meanwhile, so what was saved is outdated."""


@dataclass
class World:
    """One old server, one new cluster, and a program that writes wherever it is let in."""

    forest: Forest = OAK
    runs: bool = True
    open: bool = True
    fence: bool = False
    old: set[int] = field(default_factory=set)
    archive: set[int] = field(default_factory=set)
    new: set[int] | None = None
    serves: bool = False
    acknowledged: set[int] = field(default_factory=set)

    def write(self) -> None:
        """A program writes one message, if anybody takes it."""
        assert not (self.runs and self.open and self.serves), "programs can enter both"
        number = len(self.acknowledged)
        if self.runs and self.open:
            self.old.add(number)
        elif self.serves and self.new is not None:
            self.new.add(number)
        else:
            return
        self.acknowledged.add(number)

    def wait(self) -> None:
        """Nobody renews the fence for so long that it lifts itself."""
        if self.fence:
            self.fence, self.open, self.runs = False, True, True

    def do(self, act: Act) -> None:
        getattr(self, act.name.lower())()

    def run(self, stop: int, *, slow: int | None = None) -> None:
        """Do what is to be done, but no more than *stop* acts; before the act *slow* it stalls."""
        for k, act in enumerate(acts(self.forest.migration)[:stop]):
            if k == slow:
                self.wait()
            self.write()
            try:
                self.do(act)
            except FenceLiftedError:
                for undo in undoing(self.forest.migration):
                    self.do(undo)
                return
            self.write()

    def note(self, change: Callable[[Forest], Forest]) -> None:
        self.forest = change(self.forest)

    def prepare(self) -> None:
        self.note(lambda forest: begun(forest, "run", "store-2", 5, NOON))

    def raise_(self) -> None:
        assert self.new is None
        assert phase_of(self.forest.migration) is Phase.PREPARED, "made before it was recorded"
        self.new = set()

    def note_fence(self) -> None:
        self.note(lambda forest: advanced(forest, Phase.FENCED))

    def fence_(self) -> None:
        self.open, self.fence = False, True

    def save(self) -> None:
        self.archive = {*self.old}

    def restore(self) -> None:
        assert self.new == set()
        self.new = {*self.archive}

    def compare(self) -> None:
        assert self.new == self.archive

    def note_restored(self) -> None:
        self.note(lambda forest: advanced(forest, Phase.RESTORED))

    def close(self) -> None:
        if not self.fence:
            raise FenceLiftedError
        self.runs, self.fence = False, False

    def commit(self) -> None:
        assert (self.runs, self.fence) == (False, False), "the old server could come back"
        self.note(lambda forest: advanced(forest, Phase.COMMITTED))

    def open_(self) -> None:
        assert phase_of(self.forest.migration) is Phase.COMMITTED, "programs come before it is recorded"
        self.serves = True

    def settle(self) -> None:
        self.note(lambda forest: settled(forest, NOON, WEEK))

    def lift(self) -> None:
        self.fence, self.open, self.runs = False, True, True

    def remove(self) -> None:
        assert not self.serves, "what programs wrote would go"
        self.new = None

    def forget(self) -> None:
        self.note(undone)


class Named(World):
    """Acts whose names are words of Python, or of a field, have methods of other names."""

    def do(self, act: Act) -> None:
        method = {Act.RAISE: self.raise_, Act.FENCE: self.fence_, Act.OPEN: self.open_}.get(act)
        if method:
            method()
        else:
            super().do(act)


def moved(world: World) -> bool:
    """Whether the cluster has all there is, and serves alone."""
    kept = phase_of(world.forest.migration) is Phase.KEPT
    return kept and world.serves and not world.runs and world.new == world.acknowledged


def test_nothing_is_lost_on_the_way() -> None:
    world = Named()

    world.run(len(MOVE))

    assert moved(world)
    assert len(world.acknowledged) > 5
    assert acts(world.forest.migration) == ()


@pytest.mark.parametrize("waited", [False, True])
@pytest.mark.parametrize("stop", range(len(MOVE)))
def test_stopped_after_any_act_and_run_again_it_ends_in_the_same_place(stop: int, *, waited: bool) -> None:
    world = Named()

    world.run(stop)
    if waited:
        world.wait()
    world.write()
    world.run(len(UNDO) + len(MOVE))

    assert moved(world)


@given(st.lists(st.tuples(st.integers(0, 15), st.none() | st.integers(0, 15), st.booleans()), max_size=6))
def test_stopped_and_stalled_again_and_again_it_ends_in_the_same_place(
    stops: list[tuple[int, int | None, bool]],
) -> None:
    world = Named()

    for stop, slow, waited in stops:
        world.run(stop, slow=slow)
        if waited:
            world.wait()
    world.run(len(UNDO) + len(MOVE))

    assert moved(world)


@pytest.mark.parametrize("slow", range(len(MOVE)))
def test_a_stall_anywhere_loses_nothing(slow: int) -> None:
    """What was saved before the fence lifted itself is outdated: then all of it is undone."""
    world = Named()

    world.run(len(MOVE), slow=slow)

    fenced, closed = MOVE.index(Act.FENCE), MOVE.index(Act.CLOSE)
    assert moved(world) == (not fenced < slow <= closed)
    assert world.acknowledged <= (world.new or set()) | world.old
    if not moved(world):
        assert (world.forest, world.open, world.new) == (OAK, True, None)


@pytest.mark.parametrize("stop", range(MOVE.index(Act.CLOSE) + 1))
def test_stopped_before_the_old_server_is_and_never_run_again_programs_can_write(stop: int) -> None:
    world = Named()
    world.run(stop)

    world.wait()
    before = len(world.acknowledged)
    world.write()

    assert len(world.acknowledged) == before + 1


@pytest.mark.parametrize("stop", range(MOVE.index(Act.COMMIT) + 1))
def test_before_it_is_committed_all_of_it_is_undone(stop: int) -> None:
    world = Named()
    world.run(stop)

    for act in undoing(world.forest.migration):
        world.do(act)

    assert (world.forest, world.open, world.runs, world.new) == (OAK, True, True, None)
    assert world.acknowledged == world.old


def test_afterwards_it_is_only_finished() -> None:
    for phase in (Phase.COMMITTED, Phase.KEPT):
        with pytest.raises(RefusedError, match="only finished"):
            undoing(at(phase).migration)
        with pytest.raises(RefusedError, match="only finished"):
            undone(at(phase))


def at(phase: str) -> Forest:
    return replace(GROWN, migration=Migration(phase, "run", "oak-node-1", "store-2", NOON, 5))


@pytest.mark.parametrize("phase", NEW[1:])
@pytest.mark.parametrize("found", NEW)
def test_each_phase_follows_one_other(found: Phase, phase: Phase) -> None:
    if NEW.index(phase) == NEW.index(found) + 1:
        after = advanced(at(found), phase).migration
        assert after == replace(at(found).migration, phase=phase)  # type: ignore[type-var]
    else:
        with pytest.raises(RefusedError, match=f"is {found}, and {phase} does not follow that"):
            advanced(at(found), phase)


@pytest.mark.parametrize("found", NEW)
def test_only_what_is_not_under_way_begins(found: Phase) -> None:
    with pytest.raises(RefusedError, match=f"is {found}, and prepared does not follow that"):
        begun(at(found), "run", "store-3", 5, NOON)


def test_nothing_but_what_is_prepared_follows_what_was_not_begun() -> None:
    with pytest.raises(RefusedError, match="is not begun, and fenced does not follow that"):
        advanced(GROWN, Phase.FENCED)


def test_what_is_undone_keeps_the_old_node_and_gives_no_name_twice() -> None:
    after = undone(at(Phase.RESTORED))

    assert [node.name for node in after.nodes] == ["oak-node-1"]
    assert (after.status, after.size, after.migration) == (Status.ACTIVE, "small", None)
    assert after.fresh_names(1) == ("oak-node-4",)


def test_a_phase_of_a_newer_morpheus_is_left_alone() -> None:
    for ask in (acts, undoing):
        with pytest.raises(RefusedError, match="'thawed', which only a newer Morpheus knows"):
            ask(at("thawed").migration)


def test_the_old_store_is_kept_for_its_time_or_until_somebody_asks() -> None:
    kept = settled(at(Phase.COMMITTED), NOON, WEEK)

    assert not is_discardable(kept, NOON + WEEK - timedelta(seconds=1), asked=False)
    assert is_discardable(kept, NOON + WEEK, asked=False)
    assert is_discardable(kept, NOON, asked=True)
    assert discarded(kept) == GROWN
    assert not is_discardable(GROWN, NOON + WEEK, asked=True)


@pytest.mark.parametrize("phase", NEW[:-1])
def test_the_old_store_of_a_move_under_way_never_goes(phase: Phase) -> None:
    assert not is_discardable(at(phase), NOON + WEEK, asked=False)
    with pytest.raises(RefusedError, match="the old store may be needed"):
        is_discardable(at(phase), NOON + WEEK, asked=True)


GIB = 2**30


@pytest.mark.parametrize(
    ("free", "copies", "enough"),
    [(11, 1, True), (10.9, 1, False), (22, 2, True), (43, 4, False), (44, 4, True)],
)
def test_every_place_has_room_for_its_copies_and_a_tenth_more(
    free: float, copies: int, *, enough: bool
) -> None:
    rooms = [Room("oak-node-2", 99 * GIB, 1), Room("oak-node-1", int(free * GIB), copies)]

    if enough:
        check_room("oak", 10 * GIB, rooms)
    else:
        with pytest.raises(
            RefusedError, match=rf"needs {copies * 11}.00 GiB on oak-node-1 \({free:.2f} GiB are"
        ):
            check_room("oak", 10 * GIB, rooms)


def test_what_a_newer_morpheus_keeps_is_no_hindrance_to_a_check() -> None:
    assert not is_discardable(at("thawed"), NOON + WEEK, asked=False)
    with pytest.raises(RefusedError, match="'thawed', which only a newer Morpheus knows"):
        is_discardable(at("thawed"), NOON + WEEK, asked=True)


@pytest.mark.parametrize("phase", [None, "thawed", *NEW])
def test_an_old_store_is_there_once_the_streams_have_moved_and_as_long_as_its_node(
    phase: Phase | None,
) -> None:
    forest = at(phase) if phase else GROWN

    assert old_store(forest) == (forest.migration if phase is Phase.KEPT else None)
    assert old_store(forest.without("oak-node-1")) is None
