"""The vault keeps its promises beside whatever store keeps the registry."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from morpheus import keyring
from morpheus.errors import RefusedError
from morpheus.keyring import Keeper
from morpheus.registry import care
from morpheus.registry.care import Place
from morpheus.secrets import ForestSecrets
from morpheus.vault import Vault
from tests.contracts.places import KINDS, PLACES, PLACES_FOR_MANY, texts
from tests.vault.sample import authority, forest, recorded, told_by, vault

WRITERS = 4


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return KINDS[request.param](request, tmp_path)


every_place = pytest.mark.parametrize("place", PLACES, indirect=True)


@every_place
def test_secrets_are_made_found_changed_and_removed(place: Place) -> None:
    oak = recorded(place, forest())
    made = vault(place).ensure(oak, newborn=True)
    with pytest.raises(RefusedError, match="cannot be opened"):
        vault(place, keyring.new_key()).open(oak)

    changed = vault(place).change(oak, lambda known: replace(known, subaccount_password="of the box"))
    assert vault(place).open(oak) == changed == replace(made, subaccount_password="of the box")
    sealed = place("secrets/oak").read().text or ""
    assert not [each for each in told_by(changed) if each in sealed]

    vault(place, None).delete(oak)
    vault(place, None).delete(oak)
    assert vault(place).find(oak) is None
    assert not [each for each in texts(place("secrets/oak")) if "ciphertext" in each]
    again = recorded(place, forest("run-2"))
    assert vault(place).ensure(again, newborn=True).access != made.access


@pytest.mark.parametrize("place", PLACES_FOR_MANY, indirect=True)
def test_of_devices_that_begin_at_once_all_get_the_same(place: Place) -> None:
    oak, barrier = recorded(place, forest()), Barrier(WRITERS, timeout=30)

    def ensure(_: int) -> ForestSecrets:
        barrier.wait()
        return vault(place).ensure(oak, newborn=True)

    with ThreadPoolExecutor(WRITERS) as pool:
        made = list(pool.map(ensure, range(WRITERS)))

    assert all(each == vault(place).open(oak) for each in made)


@pytest.mark.parametrize("place", PLACES_FOR_MANY, indirect=True)
def test_of_devices_that_begin_at_once_one_has_the_key(place: Place, tmp_path: Path) -> None:
    barrier = Barrier(WRITERS, timeout=30)

    def opened(k: int) -> Vault | None:
        barrier.wait()
        try:
            return keyring.open_vault(Keeper(place, "s3", None, tmp_path / f"device-{k}"), authority)
        except RefusedError:
            return None

    with ThreadPoolExecutor(WRITERS) as pool:
        (mine,) = filter(None, pool.map(opened, range(WRITERS)))

    oak = recorded(place, forest())
    assert mine.ensure(oak, newborn=True) == mine.open(oak)


@pytest.mark.long
@every_place
def test_secrets_that_moved_open_with_the_same_key(
    request: pytest.FixtureRequest, place: Place, tmp_path: Path
) -> None:
    device = Keeper(place, "s3", None, tmp_path / "device")
    oak = recorded(place, forest())
    made = keyring.open_vault(device, authority).ensure(oak, newborn=True)
    target = KINDS["s3"](request, tmp_path / "target")

    care.migrate(place, target)

    moved = keyring.open_vault(replace(device, place=target))
    assert moved.open(oak) == made
    assert sorted(target(None).beside()) == ["secrets/_key", "secrets/oak"]
