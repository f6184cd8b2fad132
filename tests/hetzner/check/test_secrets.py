"""morpheus check: how the key for secrets stands; it is neither made nor shown."""

import pytest

from morpheus import folders, kept, keyring
from morpheus import settings as config
from tests.hetzner.check.device import Device


def keeper() -> keyring.Keeper:
    return keyring.keeper_of(config.load().registry)


def test_a_registry_may_have_no_key_yet(device: Device) -> None:
    code, answers = device.check("registry")

    assert (code, len(answers)) == (0, 2)
    assert answers[1]["says"] == "it has no key for secrets yet: the first forest in a cloud makes it"
    assert not folders.data_dir().exists()


def test_the_key_is_here(device: Device) -> None:
    device.check("registry")  # writes the settings
    keyring.open_vault(keeper())

    assert device.check("registry")[1][1]["says"] == "its key for secrets is here, and proven"


def test_the_key_is_not_here(device: Device) -> None:
    device.check("registry")
    keyring.open_vault(keeper())
    kept.path(folders.data_dir()).unlink()

    code, says = device.failed("registry")

    assert (code, f"putting a copy of {kept.path(folders.data_dir())} back" in says) == (5, True)


def test_another_key_is_told_by_the_environment(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    device.check("registry")
    keyring.open_vault(keeper())
    wrong = keyring.new_key().get_secret_value()
    for told, code, words in ((wrong, 5, "not the one"), ("c2hvcnQ=", 2, "MORPHEUS_SECRET_KEY is no key")):
        monkeypatch.setenv(keyring.VARIABLE, told)

        ended, says = device.failed("registry")

        assert (ended, words in says, told in says) == (code, True, False)


def test_nobody_asks_where_nodes_are_on_this_machine(device: Device) -> None:
    device.machine["provider"] = "local"

    assert len(device.check("registry")[1]) == 1
