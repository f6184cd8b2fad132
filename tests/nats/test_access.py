"""The secrets of a forest: made once, seen by nobody else, gone when told."""

from pathlib import Path

import nkeys
import pytest

from morpheus.errors import InvalidInputError, MachineError
from morpheus.nats import access
from morpheus.nats.access import AccessFolder


@pytest.fixture
def folder(tmp_path: Path) -> AccessFolder:
    return AccessFolder(tmp_path / "access")


def test_the_secrets_of_a_forest_are_made_once(folder: AccessFolder) -> None:
    assert folder.find("oak") is None

    made = folder.ensure("oak")

    assert folder.ensure("oak") == folder.find("oak") == made


def test_every_forest_has_secrets_of_its_own(folder: AccessFolder) -> None:
    oak, elm = folder.ensure("oak"), folder.ensure("elm")
    secrets = [*_secrets(oak), *_secrets(elm)]

    assert len(set(secrets)) == len(secrets) == 6


def test_public_keys_are_those_of_users() -> None:
    made = access.generate()

    for key, seed in ((made.app_key, made.app_seed), (made.system_key, made.system_seed)):
        assert key.startswith("U")
        assert key == nkeys.from_seed(bytearray(seed.encode())).public_key.decode()


def test_secrets_are_never_shown() -> None:
    made = access.generate()

    assert not any(secret in f"{made!r} {made}" for secret in _secrets(made))


def test_a_route_password_can_stand_in_an_address() -> None:
    assert all(letter.isalnum() or letter in "-_" for letter in access.generate().route_password)


def test_the_seeds_stand_in_files_of_their_own(folder: AccessFolder) -> None:
    made = folder.ensure("oak")

    assert folder.seed_file("oak", system=False).read_text() == made.app_seed
    assert folder.seed_file("oak", system=True).read_text() == made.system_seed


def test_only_this_user_may_read_them(folder: AccessFolder) -> None:
    folder.ensure("oak")
    place = folder.seed_file("oak", system=True).parent

    assert [each.stat().st_mode & 0o077 for each in (place, *place.iterdir())] == [0] * 4


def test_an_interrupted_making_is_begun_again(folder: AccessFolder) -> None:
    folder.ensure("oak")
    (folder.seed_file("oak", system=True).parent / "access.json").unlink()

    made = folder.ensure("oak")

    assert folder.seed_file("oak", system=True).read_text() == made.system_seed


def test_forgotten_secrets_are_gone_and_those_of_others_not(folder: AccessFolder) -> None:
    folder.ensure("oak")
    elm = folder.ensure("elm")

    folder.forget("oak")
    folder.forget("oak")

    assert folder.find("oak") is None
    assert folder.find("elm") == elm


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"app_seed": "x"}', "\udcff"])
def test_broken_secrets_are_an_error_and_not_replaced(folder: AccessFolder, text: str) -> None:
    folder.ensure("oak")
    file = folder.seed_file("oak", system=True).parent / "access.json"
    file.write_text(text, errors="surrogateescape")

    with pytest.raises(MachineError, match="oak"):
        folder.ensure("oak")


@pytest.mark.parametrize("name", ["", ".", "..", "../oak", "/oak"])
def test_a_path_names_no_forest(folder: AccessFolder, name: str) -> None:
    folder.ensure("oak")

    for act in (folder.ensure, folder.find, folder.forget):
        with pytest.raises(InvalidInputError):
            act(name)

    assert folder.find("oak")


def test_secrets_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "access").write_text("in the way")

    with pytest.raises(MachineError):
        AccessFolder(tmp_path / "access").ensure("oak")


def _secrets(made: access.Access) -> tuple[str, str, str]:
    return (made.app_seed, made.system_seed, made.route_password)
