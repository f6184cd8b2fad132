"""morpheus init: once, again, elsewhere; the real client, a simulated project, boxes with real WebDAV."""

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from morpheus import founding, kept, transfer
from morpheus.cloud.hetzner import boxes
from morpheus.cloud.hetzner.boxes import Boxes
from morpheus.errors import MorpheusError, RefusedError
from morpheus.forest import Forest
from morpheus.registry import Registry
from morpheus.registry.webdav import WebDavStore
from morpheus.settings import HetznerSettings
from tests.hetzner.devices import Device, secrets_of
from tests.servers.boxes import Files, with_files
from tests.servers.fixtures import own_folder
from tests.servers.webdav import PASSWORD as APACHE_PASSWORD
from tests.servers.webdav import USER, WebDav
from tests.simulator import Latency
from tests.simulator.clients import client_of
from tests.simulator.test_boxes import PASSWORD, ordered

MAKE = ("--storagebox", "--yes")
POST, SUB = "POST /storage_boxes", "POST /storage_boxes/{id}/subaccounts"
NewDevice = Callable[..., Device]


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "LOOK_EVERY", 0.05)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    with with_files(tmp_path / "there", latency=Latency(scale=0)) as files:
        yield files


@pytest.fixture
def new_device(files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[NewDevice]:
    """Makes devices; afterwards nothing they said or logged held a secret."""
    devices: list[Device] = []
    caplog.set_level(logging.DEBUG)

    def new(**hetzner: object) -> Device:
        devices.append(Device(files, tmp_path / f"device-{len(devices)}", hetzner))
        return devices[-1]

    yield new
    said = "\n".join([caplog.text, *(text for each in devices for text in each.said)])
    assert not [each for each in secrets_of(*devices) if each in said]
    for device in devices:
        assert all(each not in device.settings.read_text() for each in secrets_of(device))
    changes = {each for each in files.simulator.requests if "reset" in each}
    assert changes == set()  # nobody's password was ever changed


# Once, and again


def test_a_box_is_made_and_holds_a_registry(new_device: NewDevice, files: Files) -> None:
    device = new_device()

    told = device.init(*MAKE)

    box = files.simulator.storage_boxes["morpheus-registry"]
    (access,) = device.known
    assert files.simulator.billable() == ["storage_box morpheus-registry"]
    assert (box.box_type, box.location) == ("bx11", "fsn1")
    assert box.labels == {"managed-by": "morpheus", "purpose": "registry", "registry-id": access.registry_id}
    assert {name for name, on in box.access_settings.items() if on} == {
        "reachable_externally",
        "webdav_enabled",
    }
    assert told["registry"] == {
        "type": "storagebox",
        "url": f"https://{box.server}/morpheus/registry.json",
        "username": box.username,
    }
    assert (told["key"], told["changed"]) == ("made", True)
    document = json.loads((files.home(box.username or "") / "morpheus/registry.json").read_text())
    assert (document["registry_id"], document["forests"]) == (access.registry_id, {})
    assert kept.path(device.data).stat().st_mode & 0o777 == 0o600
    assert device.settings.read_text().startswith("# mine\nmachine:")
    assert "# JSON is YAML" in device.settings.read_text()
    assert device.run("list").exit_code == 0  # with no password in the environment


def test_people_read_what_was_done_and_what_to_keep(new_device: NewDevice, files: Files) -> None:
    device = new_device()

    done = device.run("init", *MAKE)

    box = files.simulator.storage_boxes["morpheus-registry"]
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == f"The registry stands at https://{box.server}/morpheus/registry.json."
    assert lines[2] == "Storage Box: made, bx11 in fsn1, EUR 3.79 a month, VAT included."
    assert "keep a copy of the line that morpheus init --export prints" in lines[3]
    assert lines[-1] == f"Settings: {device.settings} (written)"
    assert device.run("init").stdout.startswith("The registry is configured already: ")


def test_twice_is_once(new_device: NewDevice, files: Files) -> None:
    device = new_device()
    first = device.init(*MAKE)
    known = device.known

    for words in ((), ("--storagebox",), MAKE, ("--url", first["registry"]["url"])):
        again = device.init(*words)
        assert (again["registry"], again["changed"]) == (first["registry"], False)

    assert device.known == known
    assert files.simulator.requests[POST] == 1


def test_the_settings_alone_were_lost(new_device: NewDevice, files: Files) -> None:
    device = new_device()
    first, text = device.init(*MAKE), device.settings.read_text()
    device.settings.write_text(text.partition("registry:")[0])

    again = device.init("--storagebox")

    assert (again["registry"], again["key"]) == (first["registry"], "proven")
    assert device.settings.read_text() == text
    assert files.simulator.requests[POST] == 1


def test_nothing_is_paid_without_a_yes(new_device: NewDevice, files: Files) -> None:
    device = new_device()

    code, sentence = device.refused("--storagebox")

    assert code == 2
    assert "EUR 3.79 a month, VAT included" in sentence
    assert "morpheus init --storagebox --yes" in sentence
    assert (files.simulator.billable(), device.known) == ([], ())


def test_who_asks_for_nothing_gets_the_three_commands(new_device: NewDevice, files: Files) -> None:
    device = new_device()

    for words in ((), ("--location", "hel1")):
        code, sentence = device.refused(*words)
        assert code == 2
        assert all(each in sentence for each in ("--storagebox --yes", "--url URL --username USER", "--none"))
    assert sum(files.simulator.requests.values()) == 0


def test_the_box_stands_where_nodes_do_or_where_it_was_asked_for(new_device: NewDevice, files: Files) -> None:
    assert "bx11 in nbg1" in new_device(location=["ash", "nbg1"]).refused("--storagebox")[1]
    assert "bx11 in fsn1" in new_device(location="ash").refused("--storagebox")[1]
    assert "fsn1, hel1, nbg1" in new_device().refused("--storagebox", "--location", "ash")[1]

    new_device().init(*MAKE, "--location", "hel1")

    assert files.simulator.storage_boxes["morpheus-registry"].location == "hel1"


# What goes wrong on the way


@pytest.mark.parametrize("after", ["reset", pytest.param("timeout", marks=pytest.mark.long)])
def test_the_answer_to_the_order_is_lost(new_device: NewDevice, files: Files, after: str) -> None:
    files.simulator.faults.lose_reply(POST, after=after)  # type: ignore[arg-type]  # one of the two

    told = new_device().init(*MAKE)

    assert told["key"] == "made"
    assert files.simulator.billable() == ["storage_box morpheus-registry"]


def test_the_order_is_refused_and_repeated(new_device: NewDevice, files: Files) -> None:
    device = new_device()
    files.simulator.faults.status(POST, 403, times=1, code="resource_limit_exceeded")

    code, sentence = device.refused(*MAKE)
    (before,) = device.known
    device.init(*MAKE)

    assert (code, "limit is reached" in sentence) == (9, True)
    (after,) = device.known
    assert (after.password, after.key) == (before.password, before.key)


def test_a_box_that_cannot_be_made_costs_nothing_and_is_made_again(
    new_device: NewDevice, files: Files
) -> None:
    device = new_device()
    files.simulator.faults.action_error("create", times=1)

    code, sentence = device.refused(*MAKE)

    assert code == 9
    assert "was removed again: run morpheus init once more" in sentence
    assert files.simulator.billable() == []
    (before,) = device.known
    device.init(*MAKE)
    (after,) = device.known
    assert (after.password, after.key, after.registry_id) == (
        before.password,
        before.key,
        before.registry_id,
    )
    assert files.simulator.billable() == ["storage_box morpheus-registry"]


def test_a_box_that_takes_long_is_gone_on_with(new_device: NewDevice, files: Files) -> None:
    device = new_device(create_timeout=0.3)
    files.simulator.faults.action_stuck("create", 3600)

    for words in (MAKE, ("--storagebox",)):
        code, sentence = device.refused(*words)
        assert code == 7
        assert "Storage Box morpheus-registry; last seen: create under way" in sentence
        assert "morpheus init goes on with it" in sentence
    files.simulator.advance(3601)
    told = device.init("--storagebox")

    assert told["key"] == "made"
    assert files.simulator.requests[POST] == 1


def test_who_was_killed_after_keeping_the_password_uses_that(new_device: NewDevice, files: Files) -> None:
    device = new_device()
    pending = kept.Access("a" * 32, password=founding.new_password(), key=founding.new_key())
    kept.keep(device.data, pending)

    device.init(*MAKE)

    (access,) = device.known
    box = files.simulator.storage_boxes["morpheus-registry"]
    assert (access.password, access.key) == (pending.password, pending.key)
    assert access.password == SecretStr(box.password)
    assert box.labels["registry-id"] == "a" * 32


def test_a_closed_box_is_opened_again(new_device: NewDevice, files: Files) -> None:
    device = new_device()
    device.init(*MAKE)
    state = files.simulator.storage_boxes["morpheus-registry"]
    state.access_settings |= {"webdav_enabled": False, "ssh_enabled": True}
    device.settings.write_text(device.settings.read_text().partition("registry:")[0])

    device.init("--storagebox")

    assert state.access_settings["webdav_enabled"]
    assert state.access_settings["ssh_enabled"]


def test_of_two_devices_at_once_one_makes_the_box(files: Files, tmp_path: Path) -> None:
    files.simulator.faults.slow(POST, 0.3)
    url = f"{files.simulator.url}/v1"
    settings = HetznerSettings(token=SecretStr(files.simulator.token), api_url=url, boxes_url=url)

    def begin(folder: Path) -> object:
        there = Boxes(settings)
        try:
            return founding.found_in_box(there, founding.Nowhere(None), folder, there.offer())
        except MorpheusError as error:
            return error

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setenv("SSL_CERT_FILE", str(files.certificate))
        results = list(pool.map(begin, [tmp_path / "a", tmp_path / "b"]))

    (refused,) = [each for each in results if isinstance(each, MorpheusError)]
    assert isinstance(refused, RefusedError)
    assert "Another device has just made" in str(refused)
    assert sorted(len(kept.known(tmp_path / each)) for each in "ab") == [0, 1]
    assert files.simulator.billable() == ["storage_box morpheus-registry"]


def test_a_stranger_with_the_name_is_left_alone(new_device: NewDevice, files: Files) -> None:
    ordered(client_of(files.simulator), name="morpheus-registry")
    device = new_device()

    code, sentence = device.refused(*MAKE)

    assert (code, "rename it" in sentence) == (9, True)
    assert files.simulator.storage_boxes["morpheus-registry"].password == PASSWORD


def test_of_several_boxes_one_is_chosen(new_device: NewDevice, files: Files) -> None:
    device = new_device()
    device.init(*MAKE)
    other = ordered(client_of(files.simulator), name="older")
    other.update(labels={"managed-by": "morpheus", "purpose": "registry"})
    elsewhere = new_device()

    code, sentence = elsewhere.refused("--storagebox")
    assert code == 2
    assert all(
        each in sentence for each in ("--box", "older (bx11, fsn1, ", "morpheus-registry (bx11, fsn1, ")
    )
    assert "holds a registry" in elsewhere.refused("--storagebox", "--box", "none")[1]
    assert "morpheus-registry (" in elsewhere.refused("--storagebox", "--box", "morpheus-registry")[1]

    device.settings.write_text(device.settings.read_text().partition("registry:")[0])
    assert device.init("--storagebox")["key"] == "proven"  # its own is the one whose password is here


def test_a_token_that_may_only_read_makes_nothing(new_device: NewDevice, files: Files) -> None:
    device = new_device()

    code, sentence = device.refused(*MAKE, HETZNER_API_TOKEN=files.simulator.read_only_token)

    assert (code, "may only read" in sentence) == (2, True)
    assert "There is no API token" in device.refused(*MAKE, HETZNER_API_TOKEN="")[1]
    assert files.simulator.billable() == []


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
    forged = transfer.text(replace(first.known[0], key=founding.new_key()))

    code, sentence = second.refused("--import", typed=forged)

    assert (code, "not the one" in sentence) == (5, True)
    assert second.known == ()


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
    box = ordered(client_of(files.simulator), name="by-hand")
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
    assert moved == founding.check_value(device.known[0])


# Without a box of ours


def test_an_address_is_founded_once_and_by_one_key(new_device: NewDevice, files: Files) -> None:
    box = ordered(client_of(files.simulator), name="somebodys")
    password = {"STORAGEBOX_PASSWORD": PASSWORD}
    where = ("--url", f"https://{box.server}/forests/", "--username", str(box.username))
    first, second = new_device(), new_device()

    told = first.init(*where, **password)
    other = second.init(*where, **password)

    assert told["registry"]["url"] == f"https://{box.server}/forests/registry.json"
    assert (told["key"], other["key"]) == ("made", "missing")
    assert first.run("list").exit_code == second.run("list").exit_code == 0
    later = second.init("--import", typed=first.exported())
    assert later["key"] == "proven"


def test_registries_of_one_user_are_told_apart(new_device: NewDevice, files: Files) -> None:
    box = ordered(client_of(files.simulator), name="somebodys")
    password = {"STORAGEBOX_PASSWORD": PASSWORD}
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
    assert other.known == device.known[1:]


@pytest.mark.servers
def test_a_registry_is_founded_on_apache(new_device: NewDevice, apache: WebDav) -> None:
    server = own_folder(apache)
    where = ("--url", f"{server.base}forests/", "--username", USER)
    first, second = new_device(), new_device()

    told = first.init(*where, STORAGEBOX_PASSWORD=APACHE_PASSWORD)
    later = second.init("--import", typed=first.exported())

    assert (told["key"], later["key"]) == ("made", "proven")
    assert first.run("list").exit_code == second.run("list").exit_code == 0
    document = json.loads((server.here / "forests/registry.json").read_text())
    assert document["registry_id"] == first.known[0].registry_id


def test_an_address_with_a_wrong_password_changes_nothing(new_device: NewDevice, files: Files) -> None:
    box = ordered(client_of(files.simulator), name="somebodys")
    device, where = new_device(), ("--url", f"https://{box.server}/", "--username", str(box.username))

    assert device.refused(*where)[0] == 2  # none is given
    code, sentence = device.refused(*where, STORAGEBOX_PASSWORD="Something-else-7")

    assert (code, "not accepted" in sentence) == (6, True)
    assert "registry:" not in device.settings.read_text()
    assert device.known == ()


def test_this_device_only(new_device: NewDevice, files: Files) -> None:
    device = new_device()

    told = device.init("--none")

    assert (told["registry"]["type"], told["key"]) == ("none", None)
    assert device.settings.read_text().endswith("registry:\n  type: none\n")
    assert device.init("--none")["changed"] is False
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
