"""morpheus init, once and again: the real client, a simulated project, boxes with real WebDAV."""

import json

from morpheus import kept
from tests.hetzner.devices import MAKE, POST, NewDevice
from tests.servers.boxes import Files


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
