"""morpheus check: what it finds, what it advises, and that nothing is changed by it."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hcloud
import obstore
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from typer.testing import CliRunner

from morpheus import settings
from morpheus.cli import checking
from morpheus.cli.app import app
from morpheus.forest import Forest, Node
from morpheus.registry import Registry, Store
from morpheus.registry.local import LocalStore
from tests.hetzner.project import ensure, provider, public_key
from tests.servers.fixtures import own_folder
from tests.servers.s3 import KEY_ID, S3
from tests.servers.s3 import SECRET as SECRET_KEY
from tests.servers.webdav import PASSWORD, USER
from tests.simulator import Simulator

APACHE = pytest.param("apache", marks=pytest.mark.servers)
NOWHERE = "2001:db8::1%nowhere"  # an interface that does not exist
SECRETS = ("HETZNER_API_TOKEN", "HCLOUD_TOKEN", "STORAGEBOX_PASSWORD")


def keygen(path: Path) -> Path:
    """A new pair: *path* and its public half beside it."""
    key = ed25519.Ed25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    path.with_name(f"{path.name}.pub").write_bytes(public + b" someone@somewhere\n")
    return path


class Device:
    """A device whose settings lead to a simulated project."""

    def __init__(self, simulator: Simulator, folder: Path) -> None:
        self.simulator, self.folder = simulator, folder
        url = f"{simulator.url}/v1"
        self.hetzner: dict[str, Any] = {
            "token": simulator.token,
            "api_url": url,
            "boxes_url": url,
            "ipv6_target": "::1",
        }
        self.machine: dict[str, Any] = {"ssh": {"key_path": str(keygen(folder / "key"))}}
        self.registry: dict[str, Any] = {"type": "local"}
        self.dns: dict[str, Any] = {}

    def check(self, *words: str) -> tuple[int, list[dict[str, Any]]]:
        """The exit code, and the answers."""
        machine = {**self.machine, "hetzner": self.hetzner}
        text = json.dumps({"registry": self.registry, "machine": machine, "dns": self.dns})  # JSON is YAML
        (self.folder / "morpheus.yaml").write_text(text)
        done = CliRunner().invoke(app, ["check", *words, "--output", "json"])
        found = json.loads(done.stdout)
        assert found["ok"] == all(each["ok"] for each in found["answers"]) == (done.exit_code == 0)
        assert self.simulator.token not in done.output
        return done.exit_code, found["answers"]

    def failed(self, *words: str) -> tuple[int, str]:
        """The exit code, and what the only failed answer says."""
        code, answers = self.check(*words)
        (failure,) = [each for each in answers if not each["ok"]]
        return code, failure["says"]


@pytest.fixture
def device(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    for name in (
        "HETZNER_API_TOKEN",
        "HCLOUD_TOKEN",
        "STORAGEBOX_PASSWORD",
        "SSH_AUTH_SOCK",
        "MORPHEUS_CONFIG",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Device(simulator, tmp_path)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An SSH agent without keys."""
    address = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(address)], stdout=subprocess.DEVNULL)
    while not address.exists():
        assert process.poll() is None
        time.sleep(0.01)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(address))
    yield
    process.terminate()
    process.wait(timeout=10)


def test_all_is_well_and_nothing_is_changed(device: Device) -> None:
    code, answers = device.check()

    assert code == 0
    assert [each["part"] for each in answers] == ["config", "network", "ssh", "registry", *["cloud"] * 4]
    simulator = device.simulator
    changes = {each: count for each, count in simulator.requests.items() if not each.startswith("GET ")}
    assert changes == {"PUT /ssh_keys/{id}": 1}
    assert (simulator.billable(), simulator.ssh_keys, simulator.firewalls) == ([], {}, {})
    assert not settings.data_dir().exists()
    assert sum(simulator.requests.values()) <= 8


def test_each_line_is_for_people(device: Device) -> None:
    device.check()
    lines = CliRunner().invoke(app, ["check"]).stdout.splitlines()

    assert all(line.startswith("ok    ") for line in lines)
    assert lines[4] == "ok    cloud     the token is valid"
    assert "cx23 in fsn1" in lines[6]


# Settings


@pytest.mark.parametrize("words", [[], ["config"], ["cloud"]])
def test_while_the_settings_cannot_be_read_nothing_else_is_asked(device: Device, words: list[str]) -> None:
    device.machine["sssh"] = {}

    code, says = device.failed(*words)

    assert (code, "did you mean ssh?" in says) == (2, True)
    assert not device.simulator.requests


def test_without_a_file_that_is_said(device: Device) -> None:
    done = CliRunner().invoke(app, ["check", "config"])

    assert (done.exit_code, "every setting has its default" in done.stdout) == (0, True)


def test_for_nodes_of_this_machine_nothing_of_the_cloud_is_needed(device: Device) -> None:
    device.machine, device.registry = {"provider": "local"}, {}

    assert device.check()[0] == 0
    assert not device.simulator.requests


# Network


def test_without_a_way_to_ipv6_addresses_the_way_out_is_told(device: Device) -> None:
    device.hetzner["ipv6_target"] = NOWHERE

    code, says = device.failed("network")

    assert (code, "machine.ipv4.enabled: true" in says) == (8, True)


def test_ipv4_alone_suffices_where_nodes_have_it(device: Device) -> None:
    device.hetzner |= {"ipv6_target": NOWHERE, "ipv4_target": "127.0.0.1"}
    device.machine["ipv4"] = {"enabled": True}

    assert device.check("network")[0] == 0


def test_no_way_out_at_all_is_said(device: Device) -> None:
    device.hetzner |= {"ipv6_target": NOWHERE, "ipv4_target": "255.255.255.255"}
    device.machine["ipv4"] = {"enabled": True}

    code, says = device.failed("network")

    assert (code, "connect it to a network" in says) == (8, True)


# The SSH key


def test_no_key_at_all(device: Device) -> None:
    device.machine["ssh"] = {}

    code, says = device.failed("ssh")

    assert (code, "ssh-keygen" in says) == (8, True)


def test_a_key_in_its_usual_place_is_found(device: Device) -> None:
    device.machine["ssh"] = {}
    (device.folder / ".ssh").mkdir()
    keygen(device.folder / ".ssh" / "id_ed25519")

    assert device.check("ssh")[1][0]["says"].endswith("id_ed25519 can be loaded")


def test_a_public_half_alone_is_not_enough(device: Device) -> None:
    (device.folder / "key").unlink()

    code, says = device.failed("ssh")

    assert (code, "neither there nor in the agent" in says) == (8, True)


def test_two_halves_of_different_keys_are_told_apart(device: Device) -> None:
    (device.folder / "key.pub").write_text(public_key(7))

    code, says = device.failed("ssh")

    assert (code, "is another key than" in says) == (2, True)


@pytest.mark.parametrize("text", ["", "no key\n"], ids=["empty", "text"])
def test_a_broken_private_half_is_told(device: Device, text: str) -> None:
    (device.folder / "key").write_text(text)

    code, says = device.failed("ssh")

    assert (code, "cannot be loaded" in says) == (2, True)


def test_a_private_half_that_others_may_read_is_refused_as_ssh_does(device: Device) -> None:
    (device.folder / "key").chmod(0o644)

    code, says = device.failed("ssh")

    assert (code, says.endswith(f"chmod 600 {device.folder / 'key'}")) == (2, True)


@pytest.mark.servers  # needs ssh-agent
def test_a_passphrase_needs_an_agent_that_knows_the_key(device: Device, agent: None) -> None:
    key = device.folder / "locked"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "correct horse", "-f", str(key)]
    subprocess.run(command, check=True)
    device.machine["ssh"] = {"key_path": str(key)}

    code, says = device.failed("ssh")
    assert (code, f"ssh-add {key}" in says) == (8, True)

    ask = device.folder / "ask"
    ask.write_text("#!/bin/sh\necho correct horse\n")
    ask.chmod(0o700)
    more = {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(["ssh-add", "-q", str(key)], env={**os.environ, **more}, check=True)

    assert device.check("ssh")[1][0]["says"].endswith("the agent has its private half")


@pytest.mark.servers  # needs ssh-agent
def test_a_key_that_only_the_agent_has_is_enough(device: Device, agent: None) -> None:
    device.machine["ssh"] = {}
    subprocess.run(["ssh-add", "-q", str(device.folder / "key")], check=True)

    assert device.check("ssh")[0] == 0


# The registry


def test_the_forests_of_the_registry_are_named(device: Device) -> None:
    forest = Forest("oak", "hetzner").with_nodes(Node("oak-node-1", "2001:db8::1", status="active"))
    Registry(LocalStore(settings.data_dir() / "registry.json")).update(
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
    settings.data_dir().mkdir()
    (settings.data_dir() / "registry.json").write_text("{}")

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


# The cloud


def test_without_a_token_it_is_said_where_one_comes_from(device: Device) -> None:
    device.hetzner["token"] = None

    code, says = device.failed("cloud")

    assert (code, "HETZNER_API_TOKEN" in says) == (2, True)


def test_a_wrong_token_is_one_answer(device: Device) -> None:
    device.hetzner["token"] = "x" * 64

    code, says = device.failed("cloud")

    assert (code, "the token is not accepted" in says) == (2, True)
    assert sum(device.simulator.requests.values()) == 1


def test_a_token_that_may_only_read_is_told(device: Device) -> None:
    device.hetzner["token"] = device.simulator.read_only_token

    code, says = device.failed("cloud")

    assert (code, says.startswith("Cannot change anything: the token may only read")) == (2, True)


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("server_type", "cx99", "there is no server type cx99"),
        ("location", "mars", "there is no location mars"),
        ("image", "debian-1", "there is no image debian-1"),
    ],
)
def test_what_does_not_exist_is_told(device: Device, setting: str, value: str, sentence: str) -> None:
    device.hetzner[setting] = value

    code, says = device.failed("cloud")

    assert (code, sentence in says) == (2, True)


def test_what_is_sold_out_is_told_with_other_places(device: Device) -> None:
    device.simulator.faults.sold_out("cx23", "fsn1")

    code, says = device.failed("cloud")

    assert (code, "cx23 in fsn1: sold out" in says) == (9, True)

    device.hetzner["location"] = ["fsn1", "nbg1"]
    _, answers = device.check("cloud")
    assert "cx23 in nbg1" in answers[2]["says"]
    assert answers[2]["says"].endswith("not now: cx23 in fsn1")


def test_servers_are_counted(device: Device) -> None:
    (device.folder / "other").mkdir()
    ensure(provider(device.simulator, device.folder / "other"), 2)

    assert device.check("cloud")[1][-1]["says"].startswith("2 server(s) in the project")


def test_the_zone_of_names_is_asked_for_where_nodes_are_to_have_some(device: Device) -> None:
    device.dns = {"provider": "hetzner", "domain": "trees.example.com"}
    code, says = device.failed("cloud")
    assert (code, "no zone in this project holds trees.example.com" in says) == (2, True)

    url = f"{device.simulator.url}/v1"
    hcloud.Client(device.simulator.token, api_endpoint=url).zones.create(name="example.com", mode="primary")

    says = device.check("cloud")[1][-1]["says"]
    assert says == "nodes get names below trees.example.com, in the zone example.com"


def test_an_api_that_gives_no_answer_is_one_answer(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morpheus.cloud.hetzner.api.RETRIES", 0)
    device.simulator.faults.refuse_connection(times=None)

    code, says = device.failed("cloud")

    assert (code, "gives no answer" in says) == (7, True)


def test_the_first_failure_gives_the_exit_code(device: Device) -> None:
    device.machine["ssh"] = {}
    device.hetzner["token"] = None

    assert device.check()[0] == 8
