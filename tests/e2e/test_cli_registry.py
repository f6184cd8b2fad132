"""The registry's commands, from a file on this device to a server that all devices share."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from morpheus.forest import Forest, Node
from morpheus.registry import Registry
from morpheus.registry.local import LocalStore
from tests.e2e.conftest import Home
from tests.servers.webdav import WebDav, wsgidav

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDav]:
    with wsgidav(tmp_path_factory.mktemp("wsgidav") / "server") as server:
        yield server


@pytest.fixture
def device(tmp_path: Path) -> Home:
    """A device that keeps its registry in a file, with two forests in it."""
    home = Home(tmp_path / "home")
    home.settings("registry: {type: local}\n")
    registry = Registry(LocalStore(home.data / "registry.json"))
    for name in ("oak", "elm"):
        node = Node(f"{name}-node-1", "2001:db8::1", status="active")
        forest = Forest(name, "hetzner").with_nodes(node)
        registry.update(lambda document, _, forest=forest: document.with_forest(forest))  # type: ignore[misc]
    return home


def test_what_stands_in_the_registry_can_be_looked_at(device: Home) -> None:
    assert json.loads(device.morpheus("registry", "show").out)["nodes"]["oak"][0]["id"] == "oak-node-1"
    checked = device.morpheus("registry", "check", "--output", "json")
    assert (checked.code, checked.json["forests"], checked.json["faults"]) == (0, 2, [])
    kept = device.morpheus("registry", "backups", "--output", "json").json["backups"]
    assert [(each["number"], each["forests"]) for each in kept] == [(1, ["oak"])]
    assert "oak" in device.morpheus("registry", "backups").out
    assert device.morpheus("unlock", "oak").out == "oak is held by nobody.\n"
    assert device.morpheus("unlock", "yew").code == 3


def test_a_backup_is_put_back_by_force_alone_when_nodes_would_be_forgotten(device: Home) -> None:
    refused = device.morpheus("registry", "restore", "1")
    assert (refused.code, "elm-node-1" in refused.sentence) == (5, True)

    unasked = device.morpheus("registry", "restore", "1", "--force")
    assert (unasked.code, "Nobody is here to confirm it" in unasked.sentence) == (2, True)
    assert unasked.sentence.endswith("morpheus registry restore 1 --force --yes")
    assert device.morpheus("registry", "restore", "1", "--force", "--yes").code == 0

    assert [each["name"] for each in device.morpheus("list", "--output", "json").json["forests"]] == ["oak"]


def test_a_broken_registry_is_found_and_put_back_by_its_own_advice(device: Home) -> None:
    (device.data / "registry.json").write_text("{}")

    assert device.morpheus("registry", "check").code == 6
    assert device.morpheus("list").code == 6
    assert device.morpheus("registry", "restore", "1", "--yes").code == 0
    assert device.morpheus("list").code == 0


def test_the_registry_moves_to_a_server_that_a_second_device_uses(
    device: Home, server: WebDav, tmp_path: Path
) -> None:
    url = server.url("moved/registry.json")

    moved = device.morpheus("registry", "migrate", "--to", url)

    assert (moved.code, url in moved.out) == (0, True), moved.err
    advice = moved.out.splitlines()[-1]
    assert f" was moved to {url}: set registry.type and registry.url to that place on every device" in advice
    for command in (["list"], ["registry", "check"], ["check", "registry"]):
        sealed = device.morpheus(*command)
        assert sealed.code == 6
        assert advice.partition(" was moved ")[2].rstrip(".") in sealed.out + sealed.err
    second = Home(tmp_path / "second")
    second.settings(f"registry: {{type: storagebox, url: '{server.base}moved/'}}\n")
    listed = second.morpheus("list", "--output", "json")
    assert {each["name"] for each in listed.json["forests"]} == {"oak", "elm"}
    assert url in listed.json["registries"]
    assert second.morpheus("registry", "check").code == 0
    assert device.morpheus("registry", "migrate", "--to", url).code == 0  # it is there already
    back = device.morpheus("registry", "restore", "1")
    assert (back.code, "was moved" in back.sentence) == (6, True)


def test_the_registry_moves_to_a_file_that_the_settings_can_name(device: Home, tmp_path: Path) -> None:
    file = tmp_path / "shared" / "mine.json"

    assert device.morpheus("registry", "migrate", "--to", str(file)).code == 0

    device.settings(f"registry: {{type: local, url: '{file}'}}\n")
    assert {each["name"] for each in device.morpheus("list", "--output", "json").json["forests"]} == {
        "oak",
        "elm",
    }


def test_a_place_that_is_none_repeats_no_password(device: Home) -> None:
    for kind in ("s3", "storagebox"):
        refused = device.morpheus(
            *("registry", "migrate", "--to", "", "--type", kind, "--username", "u"),
            MORPHEUS_TARGET_PASSWORD="hidden-word",
        )
        assert refused.code == 2
        assert "hidden-word" not in refused.out + refused.err


def test_a_registry_that_is_away_keeps_nobody_from_what_is_here(device: Home) -> None:
    device.settings("registry: {type: storagebox, url: 'http://127.0.0.1:9/'}\n")

    planned = device.morpheus("plant", "local", "small", "--name", "ash", "--dry-run")
    assert planned.code == 0, planned.err
    listed = device.morpheus("list")
    assert (listed.code, "http://127.0.0.1:9" in listed.sentence) == (7, True)
    registry = Registry(LocalStore(device.data / "local.json"))
    registry.update(lambda document, _: document.with_forest(Forest("ash", "local")))
    listed = device.morpheus("list")
    assert (listed.code, "ash" in listed.out) == (7, True)


@pytest.mark.parametrize(("typed", "code"), [("no", 2), ("yes", 0)])
def test_at_a_terminal_a_backup_is_put_back_once_somebody_agrees(device: Home, typed: str, code: int) -> None:
    registry = Registry(LocalStore(device.data / "registry.json"))
    registry.update(lambda document, _: document.without_forest("elm"))
    before = registry.read()

    terminal = device.at_terminal("registry", "restore", "1")
    question = terminal.expect("Type yes to put it back: ")
    assert "goes back to revision 2, written" in question
    assert ", with oak, elm." in question
    terminal.answer(typed)

    assert terminal.end() == code, terminal.shown
    assert (registry.read() == before) == bool(code)
    assert ("elm" in registry.read().forests) == (not code)
