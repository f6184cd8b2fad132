"""The configuration of a server: golden files, and whatever a path or address may hold, NATS accepts it."""

import subprocess
from dataclasses import replace
from pathlib import Path

import nkeys
import pytest

from morpheus.errors import InvalidInputError
from morpheus.forest import Forest, Node, Status
from morpheus.machine import Layout
from morpheus.nats import config
from morpheus.nats.access import Access

GOLDEN = Path(__file__).parent / "golden"
LAYOUT = Layout("/oak/nats.conf", "/oak/cluster.conf", "/oak/store", "/oak/nats.log")


def seed(digit: int) -> str:
    return str(nkeys.encode_seed(bytes([digit]) * 32, nkeys.PREFIX_BYTE_USER).decode())


ACCESS = Access(seed(1), seed(2), "secret-password")


def node(k: int, ip: str = "127.0.0.1", **metadata: str) -> Node:
    ports = {"client_port": f"422{k}", "cluster_port": f"622{k}", "monitor_port": f"822{k}"}
    return Node(f"oak-node-{k}", ip, metadata={**ports, **metadata})


def forest(*nodes: Node) -> Forest:
    return Forest("oak", "local").with_nodes(*nodes)


ONE = forest(node(2, jetstream_memory="268435456", jetstream_file="1073741824"))
THREE = forest(node(2), node(3), node(4))


def rendered(forest: Forest, name: str, listen: str = "127.0.0.1") -> config.Configuration:
    return config.render(forest, forest.node(name), LAYOUT, ACCESS, listen=listen)


@pytest.mark.parametrize(("forest", "golden"), [(ONE, "one"), (THREE, "three")])
def test_the_files_of_a_node_are_the_golden_ones(forest: Forest, golden: str) -> None:
    files = rendered(forest, "oak-node-2")

    assert files.nats == (GOLDEN / f"{golden}-nats.conf").read_text()
    assert files.cluster == (GOLDEN / f"{golden}-cluster.conf").read_text()


def test_ipv6_addresses_stand_in_brackets_and_quotes() -> None:
    pair = forest(node(2, "2001:db8::1"), node(3, "2001:db8::2"), node(4, "2001:db8::3"))

    files = rendered(pair, "oak-node-2", "2001:db8::1")

    assert 'listen: "[2001:db8::1]:4222"' in files.nats
    assert 'http: "[2001:db8::1]:8222"' in files.nats
    assert 'listen: "[2001:db8::1]:6222"' in files.cluster
    assert '"nats://route:secret-password@[2001:db8::2]:6223"' in files.cluster


def test_every_node_of_a_forest_has_the_same_routes() -> None:
    routes = {rendered(THREE, each.name).cluster.partition("routes")[2] for each in THREE.nodes}

    assert len(routes) == 1


def test_no_route_leads_to_who_leaves_or_has_no_address() -> None:
    changed = forest(node(2), node(3), node(4), replace(node(5), status=Status.DELETING), Node("oak-node-6"))

    assert rendered(changed, "oak-node-2").cluster == rendered(THREE, "oak-node-2").cluster


@pytest.mark.parametrize("listen", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("forest", [ONE, THREE], ids=["one", "three"])
@pytest.mark.parametrize(
    "folder", ["plain", "with space", "größe", 'a"b', "a\\b", "$HOME", "#1 {x}; y", "木"]
)
def test_nats_server_accepts_what_is_rendered(
    tmp_path: Path, nats_server: str, forest: Forest, listen: str, folder: str
) -> None:
    (tmp_path / folder).mkdir()
    paths = [str(tmp_path / folder / name) for name in ("nats.conf", "cluster.conf", "store", "nats.log")]
    layout = Layout(*paths)
    files = config.render(forest, forest.nodes[0], layout, ACCESS, listen=listen)
    Path(layout.config).write_text(files.nats)
    Path(layout.cluster).write_text(files.cluster)

    checked = subprocess.run([nats_server, "-t", "-c", layout.config], capture_output=True, check=False)

    assert (checked.returncode, checked.stderr.decode().count("is valid")) == (0, 1)


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "a\x1bb", "\ud800"])
def test_what_no_configuration_can_hold_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        config.quote(text)


def test_an_address_with_its_port() -> None:
    assert config.authority("127.0.0.1", 4222) == "127.0.0.1:4222"
    assert config.authority("::1", 4222) == "[::1]:4222"
    assert config.client_url(Node("oak-node-1", "2001:db8::1")) == "nats://[2001:db8::1]:4222"


@pytest.mark.parametrize(("forest", "ports"), [(ONE, (4222, 8222)), (THREE, (4222, 8222, 6222))])
def test_a_server_is_waited_for_on_every_port_it_opens(forest: Forest, ports: tuple[int, ...]) -> None:
    alone = config.is_standalone(forest)

    program = config.server_program("/bin/nats-server", forest.nodes[0], LAYOUT, standalone=alone)

    assert program.ports == ports
    assert program.argv == ("/bin/nats-server", "-c", "/oak/nats.conf")
