"""The configuration of a server on a machine of its own: golden files, and NATS accepts every variant."""

import itertools
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import bcrypt
import pytest

from morpheus.errors import InvalidInputError
from morpheus.forest import Forest, Node
from morpheus.machine import Layout, pki, places
from morpheus.nats import config, listeners
from morpheus.nats.listeners import Openings, Tls
from morpheus.settings import FirewallSettings
from tests.nats.test_config import ACCESS, GOLDEN

PASSWORD = "a-password-of-32-random-characters"
CLOSED, OPEN = Openings(), Openings(nats=True, leafnode=True, monitoring=True)
EVERY = [Openings(*each) for each in itertools.product((False, True), repeat=3)]


def forest(numbers: Iterable[int]) -> Forest:
    nodes = (Node(f"oak-node-{k}", f"2001:db8:{k}::1") for k in numbers)
    return Forest("oak", "hetzner").with_nodes(*nodes)


ONE, THREE = forest([1]), forest([1, 2, 3])


@pytest.mark.parametrize(("openings", "kind"), [(CLOSED, "closed"), (OPEN, "open")])
@pytest.mark.parametrize(("forest", "size"), [(ONE, "one"), (THREE, "three")])
def test_the_files_of_a_machine_are_the_golden_ones(
    forest: Forest, size: str, openings: Openings, kind: str
) -> None:
    files = config.render_machine(forest, forest.nodes[0], ACCESS, openings, PASSWORD)

    assert files.nats == (GOLDEN / f"machine-{size}-{kind}-nats.conf").read_text()
    assert files.cluster == (GOLDEN / f"machine-{size}-cluster.conf").read_text()


@pytest.mark.parametrize("openings", EVERY, ids=str)
@pytest.mark.parametrize("forest", [ONE, THREE], ids=["one", "three"])
def test_nats_server_accepts_every_variant(
    tmp_path: Path, nats_server: str, forest: Forest, openings: Openings
) -> None:
    node, now = forest.nodes[0], datetime.now(UTC)
    authority = pki.found("oak", now)
    issued = authority.issue([node.ip or ""], now)
    tls = Tls(*(str(tmp_path / name) for name in ("ca.crt", "node.crt", "node.key")))
    texts = (authority.certificate, issued.certificate, issued.key)
    for path, text in zip((tls.authority, tls.certificate, tls.key), texts, strict=True):
        Path(path).write_text(text)
    layout = Layout(*(str(tmp_path / name) for name in ("nats.conf", "cluster.conf", "store", "log")))
    heard = listeners.of_machine(node, openings, PASSWORD, tls)
    for path, text in config.compose(forest, node, layout, ACCESS, heard).files(layout).items():
        Path(path).write_text(text)

    checked = subprocess.run([nats_server, "-t", "-c", layout.config], capture_output=True, check=False)

    assert (checked.returncode, checked.stderr.decode().count("is valid")) == (0, 1), checked.stderr


def test_the_configuration_is_delivered_before_the_cluster_that_lets_the_server_start() -> None:
    files = config.render_machine(THREE, THREE.nodes[0], ACCESS, CLOSED, PASSWORD).files(places.LAYOUT)

    assert list(files) == ["/etc/nimsforest/nats.conf", "/etc/nimsforest/cluster.conf"]


@pytest.mark.parametrize("openings", EVERY, ids=str)
def test_the_password_stands_in_no_file(openings: Openings) -> None:
    files = config.render_machine(THREE, THREE.nodes[0], ACCESS, openings, PASSWORD)

    assert PASSWORD not in files.nats + files.cluster


def test_rendering_again_changes_nothing() -> None:
    first = config.render_machine(THREE, THREE.nodes[0], ACCESS, OPEN, PASSWORD)
    listeners.hashed.cache_clear()

    assert config.render_machine(THREE, THREE.nodes[0], ACCESS, OPEN, PASSWORD) == first


@pytest.mark.parametrize("node", ["oak-node-1", "oak-node-2", "elm-node-77"])
def test_the_hash_is_that_of_the_password(node: str) -> None:
    hashed = listeners.hashed(PASSWORD, node).encode()

    assert bcrypt.checkpw(PASSWORD.encode(), hashed)
    assert not bcrypt.checkpw(b"another", hashed)


def test_a_node_without_an_address_cannot_be_configured() -> None:
    lacking = replace(THREE.nodes[0], ip=None)

    with pytest.raises(InvalidInputError, match="oak-node-1 has no address yet"):
        config.render_machine(THREE, lacking, ACCESS, CLOSED, PASSWORD)


@pytest.mark.parametrize("kind", ["nats", "leafnode", "monitoring"])
def test_a_network_in_the_firewall_opens_the_listener(kind: str) -> None:
    firewall = FirewallSettings.model_validate({kind: ["192.0.2.0/24"]})

    assert Openings.of(FirewallSettings()) == CLOSED
    assert Openings.of(firewall) == replace(CLOSED, **{kind: True})


def test_the_workload_is_told_what_its_server_asks() -> None:
    closed = listeners.workload_environment("oak", CLOSED, PASSWORD)
    opened = listeners.workload_environment("oak", OPEN, "a/b:c@d")

    assert closed == {"FOREST_ID": "oak", "NATS_URL": "nats://localhost:4222"}
    assert opened == {
        "FOREST_ID": "oak",
        "NATS_URL": "tls://app:a%2Fb%3Ac%40d@localhost:4222",
        "SSL_CERT_FILE": "/etc/nimsforest/tls/ca.crt",
    }
