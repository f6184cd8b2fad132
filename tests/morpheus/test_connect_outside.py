"""connect, for a forest elsewhere whose port 4222 is open: nothing is asked but the registry."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from morpheus import kept, keyring
from morpheus import settings as config
from morpheus.cli.app import app
from morpheus.forest import BROUGHT, Forest, Node
from morpheus.registry import Registry
from morpheus.secrets import ForestSecrets

NODES = (
    Node("oak-node-1", "2001:db8::1", "active", metadata={"dns": "oak-node-1.example.org"}),
    Node("oak-node-2", "2001:db8::2", "active"),
    Node("oak-node-3", "2001:db8::3", "deleting"),
)
URLS = "tls://oak-node-1.example.org:4222,tls://[2001:db8::2]:4222"


@pytest.fixture
def nodes() -> tuple[Node, ...]:
    return NODES


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: tuple[Node, ...]) -> ForestSecrets:
    """Those of the recorded forest oak."""
    settings = {
        "registry": {"type": "local", "url": str(tmp_path / "registry.json")},
        "firewall": {"nats": ["192.0.2.0/24"]},
    }
    (tmp_path / "morpheus.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MORPHEUS_CONFIG", str(tmp_path / "morpheus.yaml"))
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path / "data"))
    keeper = keyring.keeper_of(config.load().registry)
    forest = Forest("oak", "hetzner", run="run-1").with_nodes(*nodes)
    Registry(keeper.place(None)).update(lambda document, _: document.with_forest(forest))
    return keyring.open_vault(keeper).ensure(forest, newborn=True)


def connected(*words: str) -> tuple[dict[str, str], dict[str, str]]:
    """The environment, and the context as the nats command reads it."""
    done = CliRunner().invoke(app, ["connect", "oak", "--output", "json", *words])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["tunnel"] is False
    path = Path(told["file"])
    assert path.stat().st_mode & 0o777 == 0o600
    return told["environment"], json.loads(path.read_text())


def test_applications_get_the_addresses_a_password_and_the_authority(secrets: ForestSecrets) -> None:
    environment, context = connected()

    known = {"user": "app", "password": secrets.client_password, "ca": environment["NATS_CA"]}
    assert environment == {"NATS_URL": URLS} | {f"NATS_{key.upper()}": known[key] for key in known}
    assert context == {"description": "oak, application account, by Morpheus", "url": URLS} | known
    trusted = Path(environment["NATS_CA"])
    assert trusted.read_text() == secrets.authority.certificate
    assert trusted.stat().st_mode & 0o777 == 0o600


def test_the_system_account_is_opened_by_its_nkey(secrets: ForestSecrets) -> None:
    environment, context = connected("--system")

    assert {*environment} == {"NATS_URL", "NATS_NKEY", "NATS_CA"}
    assert context["nkey"] == environment["NATS_NKEY"]
    seed = Path(environment["NATS_NKEY"])
    assert seed.read_text() == secrets.access.system_seed
    assert seed.stat().st_mode & 0o777 == 0o600


def test_a_missing_key_is_said_and_nothing_is_written(secrets: ForestSecrets, tmp_path: Path) -> None:
    kept.path(tmp_path / "data").unlink()

    done = CliRunner().invoke(app, ["connect", "oak"])

    assert (done.exit_code, done.stdout) == (5, "")
    assert "is not on this device" in done.stderr
    assert not (tmp_path / ".config").exists()
    assert not (tmp_path / "data" / "access").exists()


@pytest.mark.parametrize(
    "nodes", [tuple(replace(node, metadata={**node.metadata, **BROUGHT}) for node in NODES)]
)
def test_of_servers_that_a_workload_brings_the_addresses_alone_are_told(secrets: ForestSecrets) -> None:
    """None of the forest's own credentials opens them."""
    environment, context = connected()
    said = CliRunner().invoke(app, ["connect", "oak"])
    refused = CliRunner().invoke(app, ["connect", "oak", "--system"])

    urls = URLS.replace("tls://", "nats://")
    assert environment == {"NATS_URL": urls}
    assert context == {"description": "oak, the servers of its workload, by Morpheus", "url": urls}
    assert "The workload brings these servers: who may enter them" in said.stderr
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "owns their accounts" in refused.stderr
    assert not context_of("oak-system").exists()


def context_of(name: str) -> Path:
    return Path(os.environ["HOME"]) / ".config" / "nats" / "context" / f"{name}.json"
