"""morpheus init on another device, and without a box of ours."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from morpheus import kept, keyring, transfer
from morpheus.forest import Forest
from morpheus.registry import Registry
from morpheus.registry.webdav import WebDavStore
from tests.hetzner.devices import MAKE, POST, SUB, NewDevice
from tests.servers.boxes import Files
from tests.servers.fixtures import own_folder
from tests.servers.webdav import PASSWORD, USER, WebDav
from tests.simulator.clients import BOX_PASSWORD, client_of, ordered_box

pytestmark = pytest.mark.long

# Another device


def test_the_transfer_text_brings_all_there_is(new_device: NewDevice, files: Files) -> None:
    first, second = new_device(), new_device()
    first.init(*MAKE)
    box = files.simulator.storage_boxes["morpheus-registry"]
    registry = Registry(
        WebDavStore(f"https://{box.server}/morpheus/registry.json", box.username, box.password)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(files.certificate))
        registry.update(lambda document, _: document.with_forest(Forest("oak")))
    line = first.exported()

    told = second.init("--import", typed=f"{line[:70]}\n {line[70:]}\n")  # as mail breaks it

    assert told["key"] == "proven"
    assert second.known == first.known
    assert "oak" in second.run("list").stdout
    assert second.init()["changed"] is False


@pytest.mark.parametrize("damage", ["cut", "typo", "other", "empty"])
def test_a_text_that_is_not_whole_is_refused(new_device: NewDevice, damage: str) -> None:
    first, second = new_device(), new_device()
    first.init(*MAKE)
    line = first.exported()
    wrong = "A" if line[40] != "A" else "B"
    texts = {"cut": line[:-4], "typo": line[:40] + wrong + line[41:], "other": "hello", "empty": ""}

    code, sentence = second.refused("--import", typed=texts[damage])

    assert code == 2
    assert "not whole" in sentence or "no transfer text" in sentence
    assert second.known == ()
    assert "registry:" not in second.settings.read_text()


def test_a_key_that_is_not_the_registrys_is_refused(new_device: NewDevice) -> None:
    first, second = new_device(), new_device()
    first.init(*MAKE)
    forged = transfer.text(replace(first.known[0], key=keyring.new_key()))

    code, sentence = second.refused("--import", typed=forged)

    assert (code, "not the one" in sentence) == (5, True)
    assert second.known == ()


def test_a_text_of_a_registry_that_is_no_longer_there_is_refused(
    new_device: NewDevice, files: Files, tmp_path: Path
) -> None:
    first, other, second = new_device(), new_device(), new_device()
    first.init(*MAKE)
    line = first.exported()
    box = files.simulator.storage_boxes["morpheus-registry"]
    there = files.home(box.username or "") / "morpheus"
    shutil.move(there, tmp_path / "away")
    where = ("--url", str(first.known[0].url), "--username", str(box.username))
    other.init(*where, STORAGEBOX_PASSWORD=box.password)
    shutil.rmtree(there / "secrets")
    shutil.copytree(tmp_path / "away/secrets", there / "secrets")  # the id alone tells them apart

    code, sentence = second.refused("--import", typed=line)

    assert (code, "Another registry stands at" in sentence) == (5, True)
    assert second.known == ()
    assert "registry:" not in second.settings.read_text()


def test_a_text_without_the_key_takes_none_away(new_device: NewDevice) -> None:
    first, second = new_device(), new_device()
    first.init(*MAKE)
    known = (access,) = first.known
    assert access.password
    environment = {"STORAGEBOX_PASSWORD": access.password.get_secret_value()}
    second.init("--url", str(access.url), "--username", str(access.username), **environment)
    line = second.exported()

    told = first.init("--import", typed=line)

    assert transfer.understood(line).key is None
    assert (told["key"], first.known) == ("proven", known)


def test_a_text_of_a_subaccount_takes_no_password_away(new_device: NewDevice) -> None:
    first, second = new_device(), new_device()
    told = first.init(*MAKE)
    (mine,) = first.known
    second.init("--subaccount")

    first.init("--import", typed=second.exported())
    first.settings.write_text(first.settings.read_text().partition("registry:")[0])
    again = first.init("--storagebox")

    assert (again["registry"], again["key"]) == (told["registry"], "proven")
    assert mine in first.known


def test_without_the_password_nothing_is_reset(new_device: NewDevice, files: Files) -> None:
    new_device().init(*MAKE)
    second = new_device()

    code, sentence = second.refused(*MAKE)

    assert code == 2
    assert all(each in sentence for each in ("--export", "--import", "--subaccount", "never reset"))
    assert second.known == ()
    assert files.simulator.requests[POST] == 1


def test_a_subaccount_sees_the_same_registry(new_device: NewDevice, files: Files) -> None:
    first, second = new_device(), new_device()
    first.init(*MAKE)

    told = second.init("--subaccount")

    box = files.simulator.storage_boxes["morpheus-registry"]
    (account,) = box.subaccounts.values()
    (access,) = second.known
    assert told["registry"]["username"] == f"{box.username}-sub1"
    assert (told["key"], access.key) == ("missing", None)
    assert account.home_directory == "morpheus"
    assert not account.access_settings["readonly"]
    assert access.registry_id == first.known[0].registry_id
    assert second.run("list").exit_code == 0
    again = second.init("--subaccount")
    assert (again["changed"], len(box.subaccounts)) == (False, 1)


def test_a_subaccount_that_was_begun_is_gone_on_with(new_device: NewDevice, files: Files) -> None:
    new_device().init(*MAKE)
    second = new_device()
    files.simulator.faults.lose_reply(SUB)
    files.simulator.faults.refuse_connection("GET /storage_boxes/{id}/subaccounts", times=20)

    assert second.run("init", "--subaccount").exit_code == 7
    files.simulator.faults.clear()
    told = second.init("--storagebox")  # what it began with counts

    assert told["key"] == "missing"
    box = files.simulator.storage_boxes["morpheus-registry"]
    assert len(box.subaccounts) == 1
    assert SecretStr(next(iter(box.subaccounts.values())).password) == second.known[0].password


def test_the_key_comes_later_to_a_subaccount(new_device: NewDevice) -> None:
    first, second = new_device(), new_device()
    first.init(*MAKE)
    told = second.init("--subaccount")

    later = second.init("--import", typed=first.exported())

    (access,) = second.known
    assert (later["key"], later["changed"]) == ("proven", False)
    assert later["registry"] == told["registry"]
    assert access.key == first.known[0].key
    assert access.password != first.known[0].password


def test_a_box_that_a_person_labelled_is_used(new_device: NewDevice, files: Files) -> None:
    box = ordered_box(client_of(files.simulator), name="by-hand")
    box.update(labels={"managed-by": "morpheus", "purpose": "registry"})
    device = new_device()

    first = device.init("--subaccount")
    device.settings.write_text(device.settings.read_text().partition("registry:")[0])
    again = device.init("--storagebox")

    assert again["registry"] == first["registry"]
    assert len(files.simulator.storage_boxes["by-hand"].subaccounts) == 1
    assert files.simulator.requests[POST] == 1  # the person's


def test_the_proof_of_the_key_moves_with_the_registry(new_device: NewDevice, tmp_path: Path) -> None:
    device = new_device()
    device.init(*MAKE)

    done = device.run("registry", "migrate", "--to", str(tmp_path / "new" / "registry.json"))

    assert done.exit_code == 0, done.output
    moved = (tmp_path / "new" / "secrets" / "_key.json").read_text()
    assert moved == keyring.check_value(device.known[0].key or keyring.new_key())


# Without a box of ours


def test_an_address_is_founded_once_and_by_one_key(new_device: NewDevice, files: Files) -> None:
    box = ordered_box(client_of(files.simulator), name="somebodys")
    password = {"STORAGEBOX_PASSWORD": BOX_PASSWORD}
    where = ("--url", f"https://{box.server}/forests/", "--username", str(box.username))
    first, second = new_device(), new_device()

    told = first.init(*where, **password)
    other = second.init(*where, **password)

    assert told["registry"]["url"] == f"https://{box.server}/forests/registry.json"
    assert (told["key"], other["key"]) == ("made", "missing")
    assert first.run("list").exit_code == second.run("list").exit_code == 0
    later = second.init("--import", typed=first.exported())
    assert later["key"] == "proven"


def test_of_two_that_found_at_once_one_has_the_key(
    new_device: NewDevice, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = ordered_box(client_of(files.simulator), name="somebodys")
    password = {"STORAGEBOX_PASSWORD": BOX_PASSWORD}
    where = ("--url", f"https://{box.server}/forests/", "--username", str(box.username))
    first, second, new_key = new_device(), new_device(), keyring.new_key

    def first_comes_first() -> SecretStr:
        monkeypatch.setattr(keyring, "new_key", new_key)
        assert first.init(*where, **password)["key"] == "made"
        return new_key()

    monkeypatch.setattr(keyring, "new_key", first_comes_first)
    told = second.init(*where, **password)

    assert told["key"] == "missing"
    assert [each.key for each in second.known] == [None]


def test_registries_of_one_user_are_told_apart(new_device: NewDevice, files: Files) -> None:
    box = ordered_box(client_of(files.simulator), name="somebodys")
    password = {"STORAGEBOX_PASSWORD": BOX_PASSWORD}
    user, device, other = ("--username", str(box.username)), new_device(), new_device()
    device.init("--url", f"https://{box.server}/one/", *user, **password)
    one = device.exported()
    device.settings.write_text(device.settings.read_text().partition("registry:")[0])
    device.init("--url", f"https://{box.server}/two/", *user, **password)
    two = device.exported()

    assert other.init("--import", typed=two)["key"] == "proven"
    assert transfer.understood(one).key != transfer.understood(two).key
    code, sentence = other.refused("--import", typed=one)
    assert (code, "configured already" in sentence) == (5, True)
    assert other.known == device.known[:1]


@pytest.mark.servers
def test_a_registry_is_founded_on_apache(new_device: NewDevice, apache: WebDav) -> None:
    server = own_folder(apache)
    where = ("--url", f"{server.base}forests/", "--username", USER)
    first, second = new_device(), new_device()

    told = first.init(*where, STORAGEBOX_PASSWORD=PASSWORD)
    later = second.init("--import", typed=first.exported())

    assert (told["key"], later["key"]) == ("made", "proven")
    assert first.run("list").exit_code == second.run("list").exit_code == 0
    document = json.loads((server.here / "forests/registry.json").read_text())
    assert document["registry_id"] == first.known[0].registry_id


def test_an_address_with_a_wrong_password_changes_nothing(new_device: NewDevice, files: Files) -> None:
    box = ordered_box(client_of(files.simulator), name="somebodys")
    device, where = new_device(), ("--url", f"https://{box.server}/", "--username", str(box.username))

    assert device.refused(*where)[0] == 2  # none is given
    code, sentence = device.refused(*where, STORAGEBOX_PASSWORD="Something-else-7")

    assert (code, "not accepted" in sentence) == (6, True)
    assert "registry:" not in device.settings.read_text()
    assert device.known == ()


def test_this_device_only(new_device: NewDevice, files: Files) -> None:
    device = new_device()

    told = device.init("--none")

    assert (told["registry"]["type"], told["key"]) == ("none", "made")
    assert device.settings.read_text().endswith("registry:\n  type: none\n")
    assert device.init("--none")["changed"] is False
    (access,) = device.known
    assert (access.type, access.username, access.password) == ("none", None, None)
    text = (device.data / "secrets" / "_key.json").read_text()
    assert text == keyring.check_value(access.key or keyring.new_key())
    for words in (MAKE, ("--subaccount",), ("--url", "https://u1.example/")):
        code, sentence = device.refused(*words)
        assert (code, "configured already" in sentence) == (5, True)
    assert device.refused("--export")[0] == 2
    assert sum(files.simulator.requests.values()) == 0


def test_settings_without_the_password_say_how_to_get_it(new_device: NewDevice) -> None:
    first, second = new_device(), new_device()
    first.init(*MAKE)
    second.settings.write_text(first.settings.read_text())  # as dotfiles are shared

    code, sentence = second.refused()

    assert (code, "morpheus init --import here" in sentence) == (2, True)
    later = second.init("--import", typed=first.exported())
    assert (later["key"], later["changed"]) == ("proven", False)
    assert second.run("list").exit_code == 0


def test_ways_exclude_each_other(new_device: NewDevice) -> None:
    assert "Choose one" in new_device().refused("--none", "--storagebox")[1]


def test_what_cannot_be_understood_is_not_overwritten(new_device: NewDevice, files: Files) -> None:
    device = new_device()
    device.data.mkdir()
    kept.path(device.data).write_text('{"registries": [{"password": "Very-secret-7"')

    code, sentence = device.refused(*MAKE)

    assert (code, "cannot be understood" in sentence) == (2, True)
    assert "Very-secret-7" not in sentence
    assert "Very-secret-7" in kept.path(device.data).read_text()
    kept.path(device.data).unlink()
    assert files.simulator.billable() == []


def test_an_environment_that_wins_over_the_kept_password_is_named(new_device: NewDevice) -> None:
    told = new_device().init(*MAKE, STORAGEBOX_PASSWORD="Something-else-7")

    assert any("STORAGEBOX_PASSWORD is set here and wins" in each for each in told["notes"])


def test_plants_ask_first_and_local_ones_never(new_device: NewDevice, files: Files) -> None:
    device = new_device()
    for words in (("small",), ("small", "--dry-run")):
        done = device.run("plant", "cloud", *words)
        assert done.exit_code == 2
        said = " ".join(done.stderr.split())
        assert all(each in said for each in ("--storagebox --yes", "--url URL --username USER", "--none"))

    assert device.run("plant", "local", "small", "--dry-run").exit_code == 0
    assert files.simulator.billable() == []
