"""Homes of forests in a Storage Box that is Apache: what nodes read there, and all they cannot do."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from morpheus import site
from morpheus.cloud.hetzner import HetznerCloud
from morpheus.cloud.hetzner.boxes import Boxes
from morpheus.founding import new_password
from morpheus.machine import places, share
from morpheus.machine.share import FETCH, Share
from morpheus.settings import FirewallSettings, RegistrySettings
from morpheus.shelf import Shelf
from tests.hetzner.project import OURS, machine_settings
from tests.servers import free_port
from tests.servers.box import Box, served
from tests.simulator import Latency, Simulator

pytestmark = pytest.mark.root

PASSWORD = "Aa9-morpheus-registry"


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A box of the registry, at ::1."""
    port = free_port()
    simulator = Simulator(latency=Latency(scale=0), boxes_at=f"[::1]:{port}")
    with simulator.running(), served(simulator, "::1", port) as box:
        monkeypatch.setenv("SSL_CERT_FILE", str(box.certificate))
        yield box
    assert simulator.violations == []


@pytest.fixture
def cloud(box: Box, tmp_path: Path) -> HetznerCloud:
    return HetznerCloud(machine_settings(box.simulator, tmp_path), FirewallSettings())


@pytest.fixture
def registry(box: Box, tmp_path: Path) -> RegistrySettings:
    """The registry in the box, as its own user gets to it."""
    boxes = Boxes(machine_settings(box.simulator, tmp_path).hetzner)
    made = boxes.ensure(OURS, PASSWORD, boxes.offer())
    return RegistrySettings(
        type="storagebox", url=made.url, username=made.username, password=SecretStr(PASSWORD)
    )


@pytest.fixture
def shelf(registry: RegistrySettings, cloud: HetznerCloud, box: Box) -> Shelf:
    box.carry()
    shelf = site.open_shelf(registry, cloud)
    assert shelf
    return shelf


@pytest.fixture
def shared(shelf: Shelf, box: Box) -> Share:
    shared = shelf.share("oak", new_password().get_secret_value())
    box.carry()
    return shared


def asked(shared: Share, method: str, name: str, box: Box, **more: Any) -> int:
    auth = httpx.BasicAuth(shared.username, shared.password)
    return httpx.request(method, shared.url(name), auth=auth, verify=box.trust, **more).status_code


def test_a_home_is_read_by_its_own_account_and_written_by_nobody_of_it(
    shelf: Shelf, shared: Share, box: Box
) -> None:
    shelf.publish("oak", b"the part")
    shelf.publish("elm", b"another's")

    assert asked(shared, "GET", "registry.json", box) == 200
    assert asked(shared, "PUT", "registry.json", box, content=b"x") in {401, 403}
    assert asked(shared, "DELETE", "registry.json", box) in {401, 403}
    assert asked(shared, "MKCOL", "folder/", box) in {401, 403}
    for elsewhere in ("elm/registry.json", "nodes/elm/registry.json", "morpheus/nodes/oak/registry.json"):
        assert asked(shared, "GET", elsewhere, box) in {400, 404}
    assert (box.home(shared.username) / "registry.json").read_bytes() == b"the part"


def test_the_account_and_its_box_let_smb_in_and_no_more_than_nodes_need(
    shared: Share, box: Box, registry: RegistrySettings
) -> None:
    (state,) = box.simulator.storage_boxes.values()
    (account,) = state.subaccounts.values()

    assert state.access_settings["samba_enabled"]
    assert account.access_settings == {
        "reachable_externally": False,
        "readonly": True,
        "samba_enabled": True,
        "ssh_enabled": False,
        "webdav_enabled": True,
    }
    assert account.home_directory == "morpheus/nodes/oak"
    assert account.labels == {"managed-by": "morpheus", "registry-id": OURS, "forest-id": "oak"}


def test_a_home_is_made_once_and_takes_the_password_of_the_newest_planting(
    shelf: Shelf, shared: Share, box: Box
) -> None:
    shelf.publish("oak", b"the part")
    newest = new_password().get_secret_value()

    again = shelf.share("oak", newest)

    box.carry()
    (state,) = box.simulator.storage_boxes.values()
    assert len(state.subaccounts) == 1
    assert (again.username, again.host) == (shared.username, shared.host)
    assert asked(again, "GET", "registry.json", box) == 200
    assert asked(shared, "GET", "registry.json", box) == 401


def test_an_answer_that_was_lost_makes_no_second_account(shelf: Shelf, box: Box) -> None:
    box.simulator.faults.lose_reply("POST /storage_boxes/{id}/subaccounts")

    shelf.share("oak", PASSWORD)

    (state,) = box.simulator.storage_boxes.values()
    assert len(state.subaccounts) == 1


def test_nothing_of_a_home_is_left(shelf: Shelf, shared: Share, box: Box) -> None:
    shelf.publish("oak", b"the part")
    shelf.publish("elm", b"another's")
    home = box.home(shared.username)

    shelf.clear("oak")
    shelf.clear("oak")

    (state,) = box.simulator.storage_boxes.values()
    assert state.subaccounts == {}
    assert not home.exists()
    assert (home.parent / "elm" / "registry.json").exists()


def test_the_account_of_another_device_finds_the_same_homes(
    registry: RegistrySettings, cloud: HetznerCloud, box: Box, tmp_path: Path
) -> None:
    boxes = Boxes(machine_settings(box.simulator, tmp_path).hetzner)
    account = boxes.ensure_account(boxes.find()[0], "d" * 32, PASSWORD)
    theirs = RegistrySettings(
        type="storagebox", url=account.url, username=account.username, password=SecretStr(PASSWORD)
    )
    box.carry()

    shelf = site.open_shelf(theirs, cloud)

    assert shelf
    shelf.publish("oak", b"the part")
    (main,) = (each.username for each in box.simulator.storage_boxes.values())
    assert (box.home(str(main)) / "morpheus/nodes/oak/registry.json").read_bytes() == b"the part"


def test_a_registry_elsewhere_has_no_homes(registry: RegistrySettings, cloud: HetznerCloud) -> None:
    for change in ({"url": "https://dav.example.com/morpheus/"}, {"username": "u9"}, {"username": "u1-sub7"}):
        assert site.open_shelf(registry.model_copy(update=change), cloud) is None
    assert site.open_shelf(RegistrySettings(type="none"), cloud) is None


# On the machine


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "forest"
    place.mkdir()
    return place


def settings_of(shared: Share, place: Path) -> Path:
    text, mode = share.files(shared)[places.SHARE_SETTINGS]
    path = place.with_name("share.curl")
    path.write_text(text)
    path.chmod(mode)
    return path


def synced(shared: Share, place: Path, box: Box) -> subprocess.CompletedProcess[str]:
    """What the timer runs, with another place than /mnt/forest."""
    text, _ = share.files(shared)[places.SHARE_SYNC]
    command = ["sh", "-c", text.replace(places.SHARE, str(place)), "sync", str(settings_of(shared, place))]
    trusted = os.environ | {"CURL_CA_BUNDLE": str(box.certificate)}
    return subprocess.run(command, env=trusted, capture_output=True, text=True, check=False)


def test_a_machine_keeps_the_last_good_copy(shelf: Shelf, shared: Share, box: Box, place: Path) -> None:
    good = json.dumps({"nodes": {"oak": []}}).encode()
    newer = json.dumps({"nodes": {"oak": [{"id": "oak-node-1", "ip": "::1"}]}}).encode()
    known = place / "registry.json"

    assert synced(shared, place, box).returncode == 22  # there is none yet
    shelf.publish("oak", good)
    assert synced(shared, place, box).returncode == 0
    for bad in (b'{"nodes": {"oak": [', b"[]", b"", b'{"forests": {}}', b'{"nodes": 7}'):
        shelf.publish("oak", bad)
        assert synced(shared, place, box).returncode != 0
        assert known.read_bytes() == good
    shelf.publish("oak", newer)
    done = synced(shared, place, box)

    assert (done.returncode, known.read_bytes()) == (0, newer)
    assert known.stat().st_mode & 0o777 == 0o644
    assert done.stdout == "this forest's part of the registry has changed\n"
    assert [each.name for each in place.iterdir()] == ["registry.json"]


def test_a_copy_that_is_the_same_stays_the_same_file(
    shelf: Shelf, shared: Share, box: Box, place: Path
) -> None:
    shelf.publish("oak", b'{"nodes": {}}')
    synced(shared, place, box)
    before = (place / "registry.json").stat()

    synced(shared, place, box)

    assert (place / "registry.json").stat().st_ino == before.st_ino


def fetched(shared: Share, name: str, path: Path, digest: str, box: Box) -> subprocess.CompletedProcess[str]:
    command = [
        "sh",
        "-c",
        FETCH,
        "fetch",
        str(settings_of(shared, path)),
        shared.url(name),
        str(path),
        digest,
    ]
    trusted = os.environ | {"CURL_CA_BUNDLE": str(box.certificate)}
    return subprocess.run(command, env=trusted, capture_output=True, text=True, check=False)


def test_a_machine_fetches_a_program_once_and_trusts_its_sum_alone(
    shelf: Shelf, shared: Share, box: Box, tmp_path: Path
) -> None:
    program, path = os.urandom(300_000), tmp_path / "program"
    digest = hashlib.sha256(program).hexdigest()

    name = shelf.upload("oak", program)
    said = [fetched(shared, name, path, digest, box).stdout for _ in range(2)]
    wrong = fetched(shared, name, path, "0" * 64, box)

    assert shelf.upload("oak", program) == name
    assert [line for line in box.log if f"/{digest} 2" in line and " PUT " in line][1:] == []
    assert said == ["changed\n", "same\n"]
    assert path.read_bytes() == program
    assert path.stat().st_mode & 0o777 == 0o755
    assert wrong.returncode == 1
    assert "another SHA-256 sum" in wrong.stderr
    assert shared.password not in wrong.stderr


def test_a_password_of_any_kind_is_one_to_curl() -> None:
    odd = Share("[::1]:1", "u1", 'a"b\\c ^°$%{}')

    text, mode = share.files(odd)[places.SHARE_SETTINGS]

    assert (text, mode) == ('user = "u1:a\\"b\\\\c ^°$%{}"\n', 0o600)
    assert odd.password not in repr(odd)
