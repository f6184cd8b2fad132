"""The key of secrets, as init brings it to schedulers and to where a registry was moved."""

import json

from morpheus import keyring, transfer
from tests.hetzner.devices import MAKE, NewDevice
from tests.servers.boxes import Files
from tests.simulator.clients import BOX_PASSWORD, client_of, ordered_box


def test_the_key_is_told_as_schedulers_take_it(new_device: NewDevice) -> None:
    device = new_device()
    device.init(*MAKE)

    done = device.run("init", "--export", "--output", "json")

    device.said[-1] = done.stderr  # alone on stdout
    told = json.loads(done.stdout)
    assert keyring.told_key({keyring.VARIABLE: told["key"]}) == device.known[0].key
    assert transfer.understood(told["transfer"]).key == device.known[0].key


def test_the_key_is_exported_where_the_registry_was_moved_to(new_device: NewDevice, files: Files) -> None:
    box = ordered_box(client_of(files.simulator), name="somebodys")
    device, new = new_device(), f"https://{box.server}/new/"
    device.init("--none")
    user = ("--username", str(box.username))
    done = device.run("registry", "migrate", "--to", new, *user, MORPHEUS_TARGET_PASSWORD=BOX_PASSWORD)
    assert done.exit_code == 0, done.output
    device.settings.write_text(device.settings.read_text().partition("registry:")[0])

    told = device.init("--url", new, *user, STORAGEBOX_PASSWORD=BOX_PASSWORD)

    assert told["key"] == "proven"
    assert transfer.understood(device.exported()).key == device.known[-1].key is not None
