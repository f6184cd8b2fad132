"""What a person does to a registry by hand: nothing is forgotten, and nobody writes to what was left."""

import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from morpheus.errors import (
    ForestBusyError,
    ForestNotFoundError,
    InvalidInputError,
    LeaseLostError,
    RefusedError,
)
from morpheus.registry import Registry, care
from morpheus.registry import lease as leases
from morpheus.registry.lease import Claim, Hold, check_free
from morpheus.registry.local import LocalStore
from tests.morpheus.planting import held, planted

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
