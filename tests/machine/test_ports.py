"""Which ports a local node gets: the standard ones when they are free, and never somebody else's."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from morpheus.cloud import Order
from morpheus.cloud.local import LocalCloud
from morpheus.errors import MachineError
from morpheus.forest import Node, Ports
from morpheus.machine import NATS, Program
from morpheus.machine.local import is_free
from tests.machine.conftest import free_ports

ADDRESSES = {
    "127.0.0.1": socket.AF_INET,
    "0.0.0.0": socket.AF_INET,
    "::1": socket.AF_INET6,
    "::": socket.AF_INET6,
}


@pytest.fixture
def cloud(tmp_path: Path, first: Ports) -> Iterator[LocalCloud]:
    cloud = LocalCloud(tmp_path, first=first)
    yield cloud
    for forest in ("oak", "elm"):
        for server in cloud.list_servers("ours", forest):
            cloud.delete_server("ours", server.name)


@pytest.fixture
def occupy() -> Iterator["Occupy"]:
    with ExitStack() as stack:
        yield Occupy(stack)


class Occupy:
    """Listens on ports until the test ends."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, port: int, address: str = "127.0.0.1") -> None:
        listener = self._stack.enter_context(socket.socket(ADDRESSES[address]))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ADDRESSES[address] == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen()


def ports_of(cloud: LocalCloud, name: str) -> Ports:
    forest = name.rpartition("-node-")[0]
    return Node(name, metadata=cloud.ensure_server(Order(name, forest, "ours", "run")).metadata).ports


def shifted(ports: Ports, by: int) -> Ports:
    return Ports(ports.client + by, ports.cluster + by, ports.monitor + by)


def test_the_standard_ports_are_those_of_nats() -> None:
    assert LocalCloud(Path("/nowhere"))._ports == Ports(4222, 6222, 8222)


def test_the_first_node_gets_the_standard_ports(cloud: LocalCloud, first: Ports) -> None:
    assert ports_of(cloud, "oak-node-1") == first


def test_the_first_node_gets_the_standard_ports_even_when_made_last(cloud: LocalCloud, first: Ports) -> None:
    for name in ("oak-node-3", "oak-node-2", "oak-node-1"):
        last = ports_of(cloud, name)

    assert last == first


def test_a_second_forest_gets_ports_of_its_own(cloud: LocalCloud, first: Ports) -> None:
    ports_of(cloud, "oak-node-1")

    assert ports_of(cloud, "elm-node-1") == shifted(first, 1)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("kind", ["client", "cluster", "monitor"])
def test_a_port_that_anybody_listens_on_is_taken(
    cloud: LocalCloud, first: Ports, occupy: Occupy, kind: str, address: str
) -> None:
    occupy(getattr(first, kind), address)

    assert ports_of(cloud, "oak-node-1") == shifted(first, 1)


def test_the_ports_of_a_node_that_does_not_run_are_kept_for_it(cloud: LocalCloud, first: Ports) -> None:
    ports_of(cloud, "oak-node-1")
    assert is_free(first.client)

    ports_of(cloud, "elm-node-1")

    assert ports_of(cloud, "oak-node-1") == first


def test_a_node_whose_port_was_taken_meanwhile_moves(cloud: LocalCloud, first: Ports, occupy: Occupy) -> None:
    ports_of(cloud, "oak-node-1")
    occupy(first.cluster)

    moved = ports_of(cloud, "oak-node-1")

    assert moved == shifted(first, 1)
    assert ports_of(cloud, "oak-node-1") == moved


def test_a_node_that_moves_keeps_all_else(cloud: LocalCloud, first: Ports, occupy: Occupy) -> None:
    before = cloud.ensure_server(Order("oak-node-1", "oak", "ours", "run"))
    occupy(first.monitor)

    after = cloud.ensure_server(Order("oak-node-1", "oak", "ours", "run-2"))

    changed = {key for key in before.metadata if before.metadata[key] != after.metadata[key]}
    assert changed == {"client_port", "cluster_port", "monitor_port"}
    assert after.labels == before.labels


def test_a_node_that_runs_stays_where_it_is(cloud: LocalCloud, first: Ports, nats_server: str) -> None:
    server = cloud.ensure_server(Order("oak-node-1", "oak", "ours", "run"))
    argv = (nats_server, "-a", "127.0.0.1", "-p", str(first.client))
    cloud.machine(server).start(Program(NATS, argv, ports=(first.client,)))

    assert not is_free(first.client)
    assert ports_of(cloud, "oak-node-1") == first


def test_when_no_ports_are_left_it_says_so(
    cloud: LocalCloud, first: Ports, occupy: Occupy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("morpheus.cloud.local.PORT_CHOICES", 2)
    occupy(first.client)
    occupy(first.client + 1)

    with pytest.raises(MachineError, match="No free ports"):
        ports_of(cloud, "oak-node-1")


def test_two_clouds_over_one_folder_agree(tmp_path: Path) -> None:
    first = free_ports()

    one = ports_of(LocalCloud(tmp_path, first=first), "oak-node-1")
    two = ports_of(LocalCloud(tmp_path, first=first), "elm-node-1")

    assert (one, two) == (first, shifted(first, 1))
