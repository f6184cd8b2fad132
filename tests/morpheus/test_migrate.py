"""Moving a registry to another place, by one who is interrupted and beside others."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from morpheus.errors import (
    ForestBusyError,
    LeaseLostError,
    MorpheusError,
    RefusedError,
    RegistryMovedError,
)
from morpheus.registry import Registry, care
from morpheus.registry import lease as leases
from morpheus.registry.local import LocalStore
from tests.fakes import MemoryStore
from tests.morpheus.planting import held, planted


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
