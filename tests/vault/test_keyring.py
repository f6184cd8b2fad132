"""The key of a registry: made once, by whoever comes first, and proven before anything is planted."""

import base64
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
from pydantic import SecretStr

from morpheus import kept, keyring
from morpheus.errors import InvalidInputError, RefusedError, RegistryMovedError, StoreBusyError
from morpheus.keyring import KEY_CHECK, Keeper
from morpheus.registry import Registry, care
from morpheus.registry.care import Place
from tests.fakes import MemoryStore
from tests.vault.sample import authority, forest, recorded


@pytest.fixture
def place() -> Place:
    return MemoryStore().place


Device = Callable[[str], Keeper]


@pytest.fixture
def device(place: Place, tmp_path: Path) -> Device:
    """A device of that name, which has nothing yet."""
    return lambda name: Keeper(place, "s3", "u1", tmp_path / name)


def key_of(keeper: Keeper) -> SecretStr | None:
    return kept.key(keeper.folder, Registry(keeper.place(None)).read().registry_id or "")


def test_the_first_plant_makes_the_key_and_the_next_one_proves_it(device: Device, place: Place) -> None:
    oak = forest()
    first = keyring.open_vault(device("one"), authority)
    made = first.ensure(recorded(place, oak), newborn=True)

    again = keyring.open_vault(device("one"))

    assert again.open(oak) == made
    text = place(KEY_CHECK).read().text or ""
    key = key_of(device("one"))
    assert key
    assert (keyring.check_value(key), key.get_secret_value() in text) == (text, False)
    assert len(base64.b64decode(key.get_secret_value())) == 32
    assert kept.path(device("one").folder).stat().st_mode & 0o777 == 0o600


def test_a_device_without_the_key_is_told_so_and_makes_none(device: Device, place: Place) -> None:
    keyring.open_vault(device("one"))
    there = place(KEY_CHECK).read()[:2]

    with pytest.raises(
        RefusedError, match=r"not on this device: bring it with morpheus init --export"
    ) as told:
        keyring.open_vault(device("two"))

    assert told.value.exit_code == 5
    assert keyring.VARIABLE in str(told.value)
    assert place(KEY_CHECK).read()[:2] == there
    assert key_of(device("two")) is None


@pytest.mark.parametrize("kind", ["local", "none"])
def test_where_nothing_can_be_exported_a_copy_is_put_back(device: Device, kind: str) -> None:
    keyring.open_vault(device("one"))
    lost = replace(device("two"), type=kind)

    with pytest.raises(RefusedError, match=rf"putting a copy of {kept.path(lost.folder)} back, or set"):
        keyring.open_vault(lost)


def test_a_wrong_key_is_told_and_not_quoted(device: Device) -> None:
    keyring.open_vault(device("one"))
    wrong = keyring.new_key()

    for act in (keyring.open_vault, lambda keeper: keyring.is_made(keeper, "")):
        with pytest.raises(RefusedError, match=r"not the one that the registry .* was founded with") as told:
            act(replace(device("one"), given=wrong))
        assert wrong.get_secret_value() not in f"{told.value!r} {told.value.__cause__!r}"


def test_a_key_that_was_told_wins_and_is_not_kept(device: Device) -> None:
    told = keyring.new_key()

    keyring.open_vault(replace(device("scheduler"), given=told))  # the first there is

    assert key_of(device("scheduler")) is None
    with pytest.raises(RefusedError, match="not on this device"):
        keyring.open_vault(device("one"))
    assert keyring.open_vault(replace(device("one"), given=told))


def test_the_variable_is_read_and_what_is_no_key_is_refused_unquoted() -> None:
    key = keyring.new_key()
    text = key.get_secret_value()

    assert keyring.told_key({}) is keyring.told_key({keyring.VARIABLE: ""}) is None
    assert keyring.told_key({keyring.VARIABLE: f" {text}\n"}) == key
    for wrong in (text[:-4], text + "AAAA", text[:-2] + "!=", "ä", text.replace("=", "")):
        with pytest.raises(InvalidInputError, match=r"MORPHEUS_SECRET_KEY is no key: .* base64") as told:
            keyring.told_key({keyring.VARIABLE: wrong})
        assert wrong not in str(told.value)


def test_how_the_key_stands_is_told_without_writing(device: Device, place: Place) -> None:
    assert keyring.is_made(device("one"), None) is False
    assert (place(None).read().text, place(KEY_CHECK).read().text) == (None, None)
    assert not device("one").folder.exists()

    keyring.open_vault(device("one"))
    registry_id = Registry(place(None)).read().registry_id

    assert keyring.is_made(device("one"), registry_id) is True
    with pytest.raises(RefusedError, match="not on this device"):
        keyring.is_made(device("two"), registry_id)


def test_the_key_is_kept_beside_the_password_that_is_kept(device: Device, place: Place) -> None:
    registry_id = Registry(place(None)).update(lambda d, _: replace(d, registry_id="r1")).registry_id or ""
    known = kept.Access(registry_id, "s3", place(None).url, "u1", SecretStr("Aa1-"))
    kept.keep(device("one").folder, known)

    keyring.open_vault(device("one"))

    (access,) = kept.known(device("one").folder)
    assert access.password == known.password
    assert access.key


# Who comes at the same moment


def test_of_programs_of_one_device_all_get_the_one_key(device: Device, place: Place) -> None:
    barrier = Barrier(8, timeout=30)

    def opened(_: int) -> SecretStr | None:
        barrier.wait()
        return keyring.open_vault(device("one"))._key

    with ThreadPoolExecutor(8) as pool:
        keys = {each.get_secret_value() for each in pool.map(opened, range(8)) if each}

    key = key_of(device("one"))
    assert key
    assert keys == {key.get_secret_value()}
    assert place(KEY_CHECK).read().text == keyring.check_value(key)


def test_of_devices_one_has_the_key_and_the_others_are_told(device: Device, place: Place) -> None:
    for k in range(10):
        home, barrier = MemoryStore(f"{k}"), Barrier(4, timeout=30)

        def opened(name: int, k: int = k, home: MemoryStore = home, barrier: Barrier = barrier) -> bool:
            barrier.wait()
            try:
                keyring.open_vault(replace(device(f"{k}-{name}"), place=home.place))
            except RefusedError:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            has = list(pool.map(opened, range(4)))

        assert has.count(True) == 1
        keys = [key_of(replace(device(f"{k}-{name}"), place=home.place)) for name in range(4)]
        assert [key is not None for key in keys] == has


class Slow(MemoryStore):
    """Another device's check value comes while ours is on its way."""

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        if self.read().text is None:
            super().write(keyring.check_value(keyring.new_key()), None, backup=False)
        return super().write(text, expected, backup=backup, over=over)


def test_a_key_that_lost_is_forgotten(device: Device) -> None:
    home = MemoryStore()
    home.others[KEY_CHECK] = Slow()

    with pytest.raises(RefusedError, match="not on this device"):
        keyring.open_vault(replace(device("one"), place=home.place))

    assert [each.key for each in kept.known(device("one").folder)] == [None]


class Losing(MemoryStore):
    """The answer to the first write is lost, though it happened."""

    lost = False

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        version = super().write(text, expected, backup=backup, over=over)
        if not self.lost:
            self.lost = True
            raise StoreBusyError("no answer")
        return version


def test_a_lost_answer_makes_no_second_key(device: Device) -> None:
    home = MemoryStore()
    home.others[KEY_CHECK] = Losing()

    keyring.open_vault(replace(device("one"), place=home.place))

    key = key_of(replace(device("one"), place=home.place))
    assert key
    assert home.others[KEY_CHECK].read().text == keyring.check_value(key)


def test_who_was_killed_before_the_proof_goes_on_with_the_key_that_is_kept(
    device: Device, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keyring, "settle_key", killed)
        with pytest.raises(KeyboardInterrupt):
            keyring.open_vault(device("one"))
    key = key_of(device("one"))

    assert keyring.open_vault(device("one"))._key == key
    assert len(kept.known(device("one").folder)) == 1


def test_no_key_is_made_beside_a_registry_that_was_moved(device: Device, place: Place) -> None:
    recorded(place, forest())
    care.migrate(place, MemoryStore("target").place)

    with pytest.raises(RegistryMovedError, match="memory:///target"):
        keyring.open_vault(device("one"))

    assert place(KEY_CHECK).read().text is None
    assert not device("one").folder.exists()


def test_what_many_keep_at_once_is_kept(tmp_path: Path) -> None:
    """No look at the file and write of it comes between those of another."""

    def keep(k: int) -> None:
        kept.keep(tmp_path, kept.Access(f"r{k}", key=SecretStr(f"key {k} {os.getpid()}")))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(keep, range(40)))

    assert len(kept.known(tmp_path)) == 40
