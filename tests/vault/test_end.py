"""The end of secrets: with their forest, with its name free again; and where the registry was moved."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from morpheus.errors import LeaseLostError, RegistryMovedError
from morpheus.registry import Registry, care
from morpheus.registry.care import Place
from tests.fakes import MemoryStore
from tests.vault.sample import forest, recorded, vault

NAME = "secrets/oak"


def test_nothing_is_left_and_the_name_is_free(place: Place, tmp_path: Path) -> None:
    oak = recorded(place, forest())
    made = vault(place).ensure(oak, newborn=True)
    vault(place).change(oak, lambda known: replace(known, subaccount_password="x"))

    for _ in range(2):
        vault(place, None, "").delete(oak)  # without the key

    assert place(NAME).read()[:2] == (None, None)
    assert place(None).beside() == []
    assert not [each for each in tmp_path.rglob("secrets/*") if each.is_dir() or each.suffix == ".json"]
    again = recorded(place, forest("run-2"))
    assert vault(place).ensure(again, newborn=True).access != made.access


def test_secrets_go_also_when_the_record_is_gone_or_tells_no_planting(place: Place) -> None:
    oak = recorded(place, forest())
    vault(place).ensure(oak, newborn=True)
    Registry(place(None)).update(lambda document, _: document.without_forest("oak"))
    vault(place).delete(oak)
    assert place(NAME).read().text is None

    vault(place).ensure(recorded(place, oak), newborn=True)
    found = recorded(place, forest(None))  # machines alone told of it
    vault(place).delete(found)
    assert place(NAME).read().text is None


def test_another_plantings_secrets_stay(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    late = recorded(place, forest("run-2"))
    vault(place).ensure(late, newborn=True)

    vault(place).delete(forest("run-1"))
    with pytest.raises(LeaseLostError):
        vault(place).delete(forest(None))

    assert vault(place).open(late)
    assert "it stays" in caplog.text


# A registry that was moved


def test_secrets_move_with_the_registry_and_none_are_written_where_it_was(place: Place) -> None:
    oak, elm = recorded(place, forest()), recorded(place, forest(name="elm"))
    made = vault(place).ensure(oak, newborn=True)
    target = MemoryStore("target").place

    care.migrate(place, target)

    assert vault(target).open(oak) == made
    before = {name: place(name).read()[:2] for name in place(None).beside()}
    acts: tuple[Callable[[], object], ...] = (
        lambda: vault(place).ensure(elm, newborn=True),
        lambda: vault(place).change(oak, lambda known: replace(known, subaccount_password="x")),
        lambda: vault(place).delete(oak),
    )
    for act in acts:
        with pytest.raises(RegistryMovedError, match="memory:///target"):
            act()
    assert {name: place(name).read()[:2] for name in place(None).beside()} == before
    vault(target).delete(oak)
    assert target(None).beside() == []
