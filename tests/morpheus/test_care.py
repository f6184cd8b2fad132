"""What a person does to a registry by hand: nothing is forgotten, and nobody writes to what was left."""

import json
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
    RefusedError,
    RegistryMovedError,
)
from morpheus.forest import Forest, Lease, Node
from morpheus.registry import Registry, care
from morpheus.registry.document import Document
from morpheus.registry.lease import DURATION, Claim, Hold
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


def test_a_backup_comes_back_as_a_new_revision_without_leases(registry: Registry, store: LocalStore) -> None:
    held(registry, "oak")
    registry.update(lambda document, _: document.without_forest("elm"))
    before = registry.read()

    restored = care.restore(store, 1, force=False)

    assert {*restored.forests} == {"oak", "elm"}
    assert restored.revision > before.revision
    assert restored.registry_id == before.registry_id
    assert restored.epochs["oak"] > before.epochs["oak"]
    assert all(forest.lease is None for forest in restored.forests.values())
    assert registry.read().forests == restored.forests


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
    assert care.unlock(registry, "oak", force=True) == "oak was held by ada@forge (grow) and is free now."

    assert registry.read().forests["oak"].lease is None
    assert registry.read().epochs["oak"] == 2


def test_a_lease_that_has_ended_needs_no_force(registry: Registry) -> None:
    held(registry, "oak", for_=timedelta(seconds=-1))

    assert "is free now" in care.unlock(registry, "oak", force=False)


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
    """A target behind which something happens after each write."""

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__("target")
        self._then = then

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        version = super().write(text, expected, backup=backup, over=over)
        self._then()
        return version


def test_what_is_planted_meanwhile_moves_too(registry: Registry, store: LocalStore) -> None:
    late = iter([planted("yew")])

    def plant() -> None:
        for forest in late:
            registry.update(lambda document, _, forest=forest: document.with_forest(forest))  # type: ignore[misc]

    target = Interrupting(plant)
    care.migrate(place(store), target.place)

    assert {*Registry(target).read().forests} == {"oak", "elm", "yew"}


def test_a_migration_that_was_interrupted_is_completed_by_the_next(
    registry: Registry, store: LocalStore
) -> None:
    class PowerCutError(Exception):
        pass

    cuts = iter([PowerCutError()])

    def cut() -> None:
        for each in cuts:
            raise each

    target = Interrupting(cut)
    with pytest.raises(PowerCutError):
        care.migrate(place(store), target.place)
    assert {*registry.read().forests} == {"oak", "elm"}

    care.migrate(place(store), target.place)

    assert {*Registry(target).read().forests} == {"oak", "elm"}
