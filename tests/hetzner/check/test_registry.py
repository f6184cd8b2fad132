"""morpheus check: registries that are there, broken, silent or not to be opened."""

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import obstore
import pytest

from morpheus import folders
from morpheus.cli import checking
from morpheus.forest import Forest, Node
from morpheus.registry import Registry, Store
from morpheus.registry.local import LocalStore
from tests.hetzner.check.device import Device
from tests.servers.fixtures import own_folder
from tests.servers.s3 import KEY_ID, S3
from tests.servers.s3 import SECRET as SECRET_KEY
from tests.servers.webdav import PASSWORD, USER

APACHE = pytest.param("apache", marks=pytest.mark.servers)


def test_the_forests_of_the_registry_are_named(device: Device) -> None:
    forest = Forest("oak", "hetzner").with_nodes(Node("oak-node-1", "2001:db8::1", status="active"))
    Registry(LocalStore(folders.data_dir() / "registry.json")).update(
        lambda document, _: document.with_forest(forest)
    )

    assert device.check("registry")[1][0]["says"].endswith("the forests are oak")


@dataclass
class Shared:
    """A registry on a server: its store, the settings that lead to it, and what lies there."""

    store: Store
    settings: dict[str, Any]
    files: Callable[[], Sequence[str]]


def shared(kind: str, request: pytest.FixtureRequest, folder: Path) -> Shared:
    """One that nobody has written yet."""
    if kind == "s3":
        s3: S3 = request.getfixturevalue("s3")
        path = f"{folder.name}/registry.json"
        access = {"type": "s3", "url": s3.url(path), "username": KEY_ID, "password": SECRET_KEY}
        pages = partial(obstore.list, s3.bucket()._client)
        return Shared(s3.store(path), access, lambda: [each["path"] for page in pages() for each in page])
    server = own_folder(request.getfixturevalue(kind))
    access = {"type": "storagebox", "url": server.url(), "username": USER, "password": PASSWORD}
    return Shared(server.store(), access, lambda: sorted(map(str, server.here.rglob("*"))))


@pytest.mark.parametrize("kind", ["s3", "wsgidav_server", APACHE])
def test_a_shared_registry_is_read_and_nothing_is_written_there(
    device: Device, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    there = shared(kind, request, tmp_path)
    device.registry, before = there.settings, there.files()
    assert device.check("registry")[1][0]["says"].endswith("no forests yet")
    assert there.files() == before

    Registry(there.store).update(lambda document, _: document.with_forest(Forest("elm", "hetzner")))
    before = there.files()
    assert before

    assert device.check("registry")[1][0]["says"] == f"{there.store.url} can be read: the forests are elm"
    assert there.files() == before


@pytest.mark.parametrize("kind", ["s3", APACHE])  # WsgiDAV lets everybody in
def test_a_wrong_password_of_the_registry_is_told(
    device: Device, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    device.registry = {**shared(kind, request, tmp_path).settings, "password": "not this one"}

    code, says = device.failed("registry")

    assert (code, "registry.password" in says, "not this one" in says) == (6, True, False)


def test_a_broken_registry_is_told_with_its_advice(device: Device) -> None:
    folders.data_dir().mkdir()
    (folders.data_dir() / "registry.json").write_text("{}")

    code, says = device.failed("registry")

    assert (code, "morpheus registry backups" in says) == (6, True)


def test_no_registry_is_a_failure_where_nodes_cost_money(device: Device) -> None:
    device.registry = {}

    code, says = device.failed("registry")

    assert (code, "morpheus init --storagebox" in says) == (2, True)


def test_a_registry_that_is_not_there_does_not_keep_the_others_from_answering(device: Device) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    device.registry = {"type": "storagebox", "url": f"http://127.0.0.1:{port}/", "username": "u1"}

    code, _ = device.failed()

    assert code == 7


def test_a_part_that_keeps_silent_has_a_bound(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "BOUND", 1.0)
    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        device.registry = {"type": "storagebox", "url": url, "username": "u1"}

        code, says = device.failed("registry")

    assert (code, "no answer" in says) == (7, True)
    assert time.monotonic() - started < 5
