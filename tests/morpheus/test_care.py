"""What a person does to a registry by hand: nothing is forgotten, and nobody writes to what was left."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from morpheus.errors import (
    ForestBusyError,
    ForestNotFoundError,
    InvalidInputError,
    LeaseLostError,
    MorpheusError,
    RefusedError,
    RegistryMovedError,
)
from morpheus.forest import Forest, Lease, Node
from morpheus.registry import Registry, care
from morpheus.registry import lease as leases
from morpheus.registry.document import Document
from morpheus.registry.lease import DURATION, Claim, Hold, check_free
from morpheus.registry.local import LocalStore
from tests.fakes import MemoryStore

ELSEWHERE = {"host": "another machine", "boot": "b", "pid": 1, "start": 1}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "registry.json")


@pytest.fixture
def registry(store: LocalStore) -> Registry:
    """A registry of two forests that were recorded one after the other."""
    registry = Registry(store)
    for name in ("oak", "elm"):
        registry.update(lambda document, _, name=name: document.with_forest(planted(name)))  # type: ignore[misc]
    return registry


def planted(name: str) -> Forest:
    return Forest(name, "hetzner").with_nodes(Node(f"{name}-node-1", "2001:db8::1", status="active"))


def held(registry: Registry, name: str, *, for_: timedelta = DURATION) -> None:
    """Let another machine hold the forest."""

    def change(document: Document, now: datetime) -> Document:
        lease = Lease("grow", "r0", "ada@forge", now, now + for_, ELSEWHERE)
        forest = replace(document.forests[name], lease=lease)
        epochs = {**document.epochs, name: document.epochs.get(name, 0) + 1}
        return replace(document.with_forest(forest), epochs=epochs)

    registry.update(change)


# Looking


def test_a_sound_registry_has_no_faults(registry: Registry, store: LocalStore) -> None:
    report = care.check(store)

    assert (report.forests, report.nodes, report.revision, report.backups) == (2, 2, 2, 1)
    assert report.faults == ()


def test_what_is_wrong_is_named(registry: Registry, store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "registry.json.backups" / "00000001.json").write_text("{")
    (tmp_path / "registry.json").write_text("no document")

    faults = care.check(store).faults

    assert "the document cannot be used: it is not JSON" in faults[0]
    assert "00000001.json cannot be used" in faults[1]


def test_backups_are_numbered_from_the_newest_on(registry: Registry, store: LocalStore) -> None:
    registry.update(lambda document, _: document.without_forest("elm"))

    kept = care.backups(store)

    assert [each.number for each in kept] == [1, 2]
    assert [[*each.document.forests] for each in kept if each.document] == [["oak", "elm"], ["oak"]]


# Putting back


def test_what_would_be_forgotten_is_named_and_refused(registry: Registry, store: LocalStore) -> None:
    before = store.read()

    with pytest.raises(RefusedError, match="elm-node-1"):
        care.restore(store, 1, force=False)

    assert store.read()[:2] == before[:2]


def test_a_backup_comes_back_as_a_new_revision_with_its_leases_ended(
    registry: Registry, store: LocalStore
) -> None:
    held(registry, "oak")
    registry.update(lambda document, _: document.without_forest("elm"))
    before = registry.read()

    restored = care.restore(store, 1, force=False)

    assert {*restored.forests} == {"oak", "elm"}
    assert restored.revision > before.revision
    assert restored.registry_id == before.registry_id
    assert restored.epochs["oak"] > before.epochs["oak"]
    assert {*before.writes} < {*restored.writes}
    check_free(restored.forests["oak"], registry.now())
    assert registry.read().bare() == restored.bare()


def test_a_broken_registry_is_put_back_with_its_identity(
    registry: Registry, store: LocalStore, tmp_path: Path
) -> None:
    registry.update(lambda document, _: document.with_forest(planted("yew")))
    identity, revision = registry.read().registry_id, registry.read().revision
    (tmp_path / "registry.json").write_text("torn")

    restored = care.restore(store, 1, force=False)

    assert registry.read().registry_id == identity
    assert registry.read().revision > revision
    assert {*restored.forests} == {"oak", "elm"}


def test_who_held_a_forest_while_a_backup_came_back_stops(registry: Registry, store: LocalStore) -> None:
    with Hold(registry, Claim("oak", "plant", "r1"), lambda document, _: document, margin=0) as hold:
        care.restore(store, 1, force=True)

        with pytest.raises(LeaseLostError):
            hold.update(lambda forest, _: forest and replace(forest, size="large"))


@pytest.mark.parametrize("number", [0, 2, None])
def test_a_backup_that_is_not_there_is_said(
    registry: Registry, store: LocalStore, number: int | None
) -> None:
    with pytest.raises(InvalidInputError, match="morpheus registry backups"):
        care.restore(store, number, force=False)


def test_without_another_programs_text_there_is_nothing_to_adopt(
    registry: Registry, store: LocalStore
) -> None:
    with pytest.raises(InvalidInputError, match="nothing to adopt"):
        care.adopt(store, force=False)


# Unlocking


def test_a_forest_whose_holder_may_live_is_freed_by_force_alone(registry: Registry) -> None:
    held(registry, "oak")

    with pytest.raises(ForestBusyError, match=r"ada@forge.*--force"):
        care.unlock(registry, "oak", force=False)
    said = care.unlock(registry, "oak", force=True)

    assert said.startswith("oak was held by ada@forge (grow) and is free now; who takes it next waits")

    check_free(registry.read().forests["oak"], registry.now())
    assert registry.read().epochs["oak"] == 2


@pytest.mark.parametrize("how", ["unlock", "restore"])
def test_who_takes_a_forest_that_a_person_freed_waits_for_what_was_begun(
    registry: Registry, store: LocalStore, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(leases, "FRESH", 0.3)
    held(registry, "oak")
    if how == "unlock":
        care.unlock(registry, "oak", force=True)
    else:
        care.restore(store, 1, force=True)

    started = time.monotonic()
    with Hold(registry, Claim("oak", "plant", "r1"), lambda document, _: document, margin=0.2):
        assert time.monotonic() - started >= 0.5


def test_a_lease_that_has_ended_needs_no_force(registry: Registry) -> None:
    held(registry, "oak", for_=timedelta(seconds=-1))

    assert "is held by nobody any more" in care.unlock(registry, "oak", force=False)
    check_free(registry.read().forests["oak"], registry.now())


def test_who_was_unlocked_by_force_stops_before_its_next_write(registry: Registry) -> None:
    with Hold(registry, Claim("oak", "plant", "r1"), lambda document, _: document, margin=0) as hold:
        care.unlock(registry, "oak", force=True)

        with pytest.raises(LeaseLostError):
            hold.update(lambda forest, _: forest and replace(forest, size="large"))


def test_unlocking_says_when_there_is_nothing_to_do(registry: Registry) -> None:
    assert care.unlock(registry, "oak", force=False) == "oak is held by nobody."
    with pytest.raises(ForestNotFoundError):
        care.unlock(registry, "yew", force=False)


# Moving


def place(store: LocalStore) -> care.Place:
    """The folder of *store*."""
    folder = Path(urlsplit(store.url).path).parent
    return lambda name: LocalStore(folder / f"{name}.json") if name else store


@pytest.fixture
def target() -> MemoryStore:
    return MemoryStore("target")


def test_a_registry_moves_with_all_that_stands_beside_it(
    registry: Registry, store: LocalStore, target: MemoryStore, tmp_path: Path
) -> None:
    secret = LocalStore(tmp_path / "secrets" / "oak.json")
    secret.write("a seed", None, backup=False)
    assert store.beside() == ["secrets/oak"]
    before = registry.read()

    care.migrate(place(store), target.place)

    after = Registry(target).read()
    assert (after.bare(), after.registry_id) == (before.bare(), before.registry_id)
    assert after.revision >= before.revision
    assert all(forest.lease is None for forest in after.forests.values())
    assert target.place("secrets/oak").read().text == "a seed"


def test_the_old_store_names_the_new_one_and_refuses_everybody(
    registry: Registry, store: LocalStore, target: MemoryStore
) -> None:
    care.migrate(place(store), target.place)

    with pytest.raises(RegistryMovedError, match="memory:///target"):
        registry.read()
    with pytest.raises(RegistryMovedError):
        registry.update(lambda document, _: document.without_forest("oak"))
    assert json.loads(store.read().text or "")["nodes"]["oak"]  # other programs still read it


def test_a_held_forest_is_not_moved(registry: Registry, store: LocalStore, target: MemoryStore) -> None:
    held(registry, "oak")

    with pytest.raises(ForestBusyError):
        care.migrate(place(store), target.place)

    assert target.read().text is None
    assert registry.read().moved_to is None


def test_another_registry_at_the_target_is_left_alone(
    registry: Registry, store: LocalStore, target: MemoryStore
) -> None:
    Registry(target).update(lambda document, _: document.with_forest(planted("yew")))
    before = target.read().text

    with pytest.raises(RefusedError, match="Another registry stands at memory:///target"):
        care.migrate(place(store), target.place)

    assert target.read().text == before
    assert {*registry.read().forests} == {"oak", "elm"}


class Interrupting(MemoryStore):
    """A target behind which something happens before or after each write."""

    def __init__(self, then: Callable[[], None], before: Callable[[], None] = lambda: None) -> None:
        super().__init__("target")
        self._then, self._before = then, before

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        self._before()
        version = super().write(text, expected, backup=backup, over=over)
        self._then()
        return version


def test_a_moved_registry_is_put_back_by_force_alone(
    registry: Registry, store: LocalStore, target: MemoryStore
) -> None:
    care.migrate(place(store), target.place)

    with pytest.raises(RegistryMovedError, match="gone for good"):
        care.restore(store, 1, force=False)
    with pytest.raises(RegistryMovedError):
        registry.read()

    care.restore(store, 1, force=True)
    assert registry.read().moved_to is None


def test_what_was_written_at_the_new_place_is_never_set_back(
    registry: Registry, store: LocalStore, target: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "FRESH", 0.1)
    care.migrate(place(store), target.place)
    Registry(target).update(lambda document, _: document.with_forest(planted("yew")))
    before = target.read()
    care.restore(store, 1, force=True)

    with pytest.raises(RefusedError, match="Another registry stands"):
        care.migrate(place(store), target.place)

    assert target.read()[:2] == before[:2]


def test_a_registry_does_not_move_to_where_it_stands(registry: Registry, store: LocalStore) -> None:
    with pytest.raises(RefusedError, match="Another registry stands"):
        care.migrate(place(store), place(LocalStore(Path(urlsplit(store.url).path))))

    assert registry.read().moved_to is None


def test_a_migrator_that_slept_sets_nothing_back(registry: Registry, store: LocalStore) -> None:
    def sleep_while_another_moves_it() -> None:
        for each in naps:
            each()

    def another() -> None:
        registry.update(
            lambda document, _: replace(
                document, forests={name: replace(f, lease=None) for name, f in document.forests.items()}
            )
        )
        care.migrate(place(store), target.place)
        Registry(target).update(lambda document, _: document.with_forest(planted("yew")))

    naps = iter([another])
    target = Interrupting(lambda: None, before=sleep_while_another_moves_it)
    with pytest.raises(MorpheusError):
        care.migrate(place(store), target.place)

    assert {*Registry(target).read().forests} == {"oak", "elm", "yew"}


def test_a_forest_that_was_taken_over_meanwhile_stops_the_move(registry: Registry, store: LocalStore) -> None:
    taken = iter(["oak"])

    def take_over() -> None:
        for name in taken:
            care.unlock(registry, name, force=True)

    with pytest.raises(LeaseLostError):
        care.migrate(place(store), Interrupting(take_over).place)

    assert registry.read().moved_to is None


def test_secrets_of_another_registry_are_left_alone(
    registry: Registry, store: LocalStore, target: MemoryStore
) -> None:
    place(store)("secrets/oak").write("ours", None, backup=False)
    target.place("secrets/oak").write("theirs", None, backup=False)

    with pytest.raises(RefusedError, match="Another secrets/oak"):
        care.migrate(place(store), target.place)

    assert target.place("secrets/oak").read().text == "theirs"
    assert registry.read().moved_to is None


def test_what_is_planted_meanwhile_moves_too(registry: Registry, store: LocalStore) -> None:
    late = iter([planted("yew")])

    def plant() -> None:
        for forest in late:
            registry.update(lambda document, _, forest=forest: document.with_forest(forest))  # type: ignore[misc]

    target = Interrupting(plant)
    care.migrate(place(store), target.place)

    assert {*Registry(target).read().forests} == {"oak", "elm", "yew"}


@pytest.mark.parametrize("write", [1, 2])
def test_a_migration_that_was_interrupted_is_completed_by_the_next(
    registry: Registry, store: LocalStore, write: int
) -> None:
    class PowerCutError(Exception):
        pass

    cuts = iter([*[None] * (write - 1), PowerCutError()])

    def cut() -> None:
        if each := next(cuts, None):
            raise each

    target = Interrupting(cut)
    with pytest.raises(PowerCutError):
        care.migrate(place(store), target.place)

    care.migrate(place(store), target.place)

    assert {*Registry(target).read().forests} == {"oak", "elm"}
