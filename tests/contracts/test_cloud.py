"""The contract of the Cloud port: whatever provides machines keeps these promises."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from morpheus.cloud import Cloud, Order, Server
from morpheus.cloud.local import LocalCloud
from morpheus.errors import InvalidInputError, RefusedError
from morpheus.machine import NATS, Program, StoreState
from tests.fake_cloud import FakeCloud
from tests.hetzner.project import provider, simulated

OURS, THEIRS = "our-registry", "their-registry"


@contextlib.contextmanager
def hetzner(folder: Path) -> Iterator[Cloud]:
    with simulated() as simulator:
        yield provider(simulator, folder, ways=True)


# A new provider is one line here.
CLOUDS: dict[str, Callable[[Path], AbstractContextManager[Cloud]]] = {
    "local": lambda folder: contextlib.nullcontext(LocalCloud(folder)),
    "fake": lambda _: contextlib.nullcontext(FakeCloud()),
    "hetzner": hetzner,
}


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cloud]:
    with CLOUDS[request.param](tmp_path) as cloud:
        yield from emptied(cloud)


def emptied(cloud: Cloud) -> Iterator[Cloud]:
    """The cloud, and no server of it afterwards."""
    yield cloud
    for registry_id in (OURS, THEIRS):
        for forest in ("oak", "oaks", "elm"):
            for server in cloud.list_servers(registry_id, forest):
                cloud.delete_server(registry_id, server.name)


def order(name: str, registry_id: str = OURS, run: str = "run-1") -> Order:
    return Order(name, name.rpartition("-node-")[0], registry_id, run)


def names(cloud: Cloud, registry_id: str = OURS, forest: str = "oak") -> list[str]:
    return [server.name for server in cloud.list_servers(registry_id, forest)]


def test_nothing_is_there_at_first(cloud: Cloud) -> None:
    assert names(cloud) == []


def test_a_new_server_has_its_name_and_an_address(cloud: Cloud) -> None:
    server = cloud.ensure_server(order("oak-node-1"))

    assert server.name == "oak-node-1"
    assert server.ip


def test_a_new_server_carries_every_label(cloud: Cloud) -> None:
    server = cloud.ensure_server(order("oak-node-1", run="run-7"))

    assert server.labels == {
        "managed-by": "morpheus",
        "registry-id": OURS,
        "forest-id": "oak",
        "node-id": "oak-node-1",
        "run-id": "run-7",
    }


def test_metadata_maps_strings_to_strings(cloud: Cloud) -> None:
    metadata = cloud.ensure_server(order("oak-node-1")).metadata

    assert all(isinstance(text, str) for pair in metadata.items() for text in pair)


def test_ensuring_twice_gives_one_server_and_leaves_it_as_it_is(cloud: Cloud) -> None:
    first = cloud.ensure_server(order("oak-node-1", run="run-1"))
    second = cloud.ensure_server(order("oak-node-1", run="run-2"))

    assert second == first
    assert names(cloud) == ["oak-node-1"]


def test_the_list_holds_what_ensure_returned(cloud: Cloud) -> None:
    made = cloud.ensure_server(order("oak-node-1"))

    assert list(cloud.list_servers(OURS, "oak")) == [made]


def test_the_list_is_of_one_forest_and_in_the_order_of_names(cloud: Cloud) -> None:
    for name in ("oak-node-2", "elm-node-1", "oak-node-1", "oaks-node-1"):
        cloud.ensure_server(order(name))

    assert names(cloud) == ["oak-node-1", "oak-node-2"]


def test_the_list_of_all_forests_holds_ours_alone(cloud: Cloud) -> None:
    for name in ("oak-node-2", "elm-node-1", "oak-node-1"):
        cloud.ensure_server(order(name))
    cloud.ensure_server(order("oaks-node-1", THEIRS))

    found = cloud.list_servers(OURS)

    assert [each.name for each in found] == ["elm-node-1", "oak-node-1", "oak-node-2"]
    assert found[0].labels["forest-id"] == "elm"


def test_a_name_of_another_registry_is_refused(cloud: Cloud) -> None:
    theirs = cloud.ensure_server(order("oak-node-1", THEIRS))

    with pytest.raises(RefusedError):
        cloud.ensure_server(order("oak-node-1", OURS))

    assert list(cloud.list_servers(THEIRS, "oak")) == [theirs]


def test_servers_of_another_registry_are_not_listed(cloud: Cloud) -> None:
    cloud.ensure_server(order("oak-node-1", THEIRS))

    assert names(cloud, OURS) == []


def test_servers_of_another_registry_are_not_deleted(cloud: Cloud) -> None:
    theirs = cloud.ensure_server(order("oak-node-1", THEIRS))

    with pytest.raises(RefusedError):
        cloud.delete_server(OURS, "oak-node-1")

    assert list(cloud.list_servers(THEIRS, "oak")) == [theirs]


def test_a_deleted_server_is_gone_and_the_others_are_not(cloud: Cloud) -> None:
    for name in ("oak-node-1", "oak-node-2"):
        cloud.ensure_server(order(name))

    cloud.delete_server(OURS, "oak-node-1")

    assert names(cloud) == ["oak-node-2"]


def test_deleting_what_is_not_there_is_fine_and_repeatable(cloud: Cloud) -> None:
    cloud.ensure_server(order("oak-node-1"))

    for name in ("oak-node-1", "oak-node-1", "oak-node-9"):
        cloud.delete_server(OURS, name)

    assert names(cloud) == []


@pytest.mark.parametrize("name", ["", "..", "oak", "../oak-node-1", "oak-node-1/..", "-node-1", "oak-node-x"])
def test_what_cannot_name_a_node_is_neither_made_nor_deleted(cloud: Cloud, name: str) -> None:
    cloud.ensure_server(order("oak-node-1"))

    with pytest.raises(InvalidInputError):
        cloud.delete_server(OURS, name)
    with pytest.raises(InvalidInputError):
        cloud.ensure_server(Order(name, "oak", OURS, "run"))

    assert names(cloud) == ["oak-node-1"]


def test_the_store_of_a_new_server_is_fresh(cloud: Cloud) -> None:
    server = cloud.ensure_server(order("oak-node-1"))

    assert cloud.store(server) is StoreState.FRESH


def test_the_store_of_a_server_that_is_not_there_is_gone(cloud: Cloud) -> None:
    server = cloud.ensure_server(order("oak-node-1"))
    cloud.delete_server(OURS, "oak-node-1")

    assert cloud.store(server) is StoreState.GONE


def test_the_store_of_a_server_made_again_is_fresh_again(cloud: Cloud) -> None:
    server = cloud.ensure_server(order("oak-node-1"))
    cloud.machine(server).start(Program(NATS, ("/bin/sleep", "600")))
    held = cloud.store(server)

    cloud.delete_server(OURS, "oak-node-1")

    assert held is StoreState.HELD
    assert cloud.store(cloud.ensure_server(order("oak-node-1"))) is StoreState.FRESH


def test_a_marker_of_another_node_makes_no_store_of_ours(cloud: Cloud) -> None:
    first, second = (cloud.ensure_server(order(f"oak-node-{k}")) for k in (1, 2))
    foreign = cloud.machine(second).read(cloud.machine(second).layout.marker)
    machine = cloud.machine(first)

    assert foreign
    machine.put(machine.layout.marker, foreign)

    assert cloud.store(first) is StoreState.GONE


def test_the_machine_has_the_name_of_its_server(cloud: Cloud) -> None:
    server = cloud.ensure_server(order("oak-node-1"))

    assert cloud.machine(server).name == "oak-node-1"


def test_racing_for_one_name_makes_one_server(cloud: Cloud) -> None:
    with ThreadPoolExecutor(10) as pool:
        servers = list(pool.map(cloud.ensure_server, [order("oak-node-1")] * 10))

    assert servers == [servers[0]] * 10
    assert names(cloud) == ["oak-node-1"]


def test_racing_for_ten_names_gives_ten_places_to_listen(cloud: Cloud) -> None:
    with ThreadPoolExecutor(10) as pool:
        servers = list(pool.map(cloud.ensure_server, [order(f"oak-node-{k}") for k in range(1, 11)]))

    assert len({_place(server) for server in servers}) == 10
    assert len(names(cloud)) == 10


def _place(server: Server) -> tuple[str, str]:
    return (server.ip, server.metadata.get("client_port", ""))


def test_admitting_returns_the_nodes_as_they_are_to_be_recorded(cloud: Cloud) -> None:
    made = [cloud.ensure_server(order(f"oak-node-{k}")) for k in (1, 2)]
    cloud.check(creates=True)

    admitted = cloud.admit(OURS, "oak", made)

    assert [(each.name, each.ip) for each in admitted] == [(each.name, each.ip) for each in made]
    assert all(
        each.metadata.items() <= new.metadata.items() for each, new in zip(made, admitted, strict=True)
    )
    assert list(cloud.admit(OURS, "oak", admitted)) == list(admitted)


def test_what_there_is_of_a_forest_is_told_and_no_more(cloud: Cloud) -> None:
    for name in ("oak-node-1", "oak-node-2", "elm-node-1"):
        cloud.ensure_server(order(name))
    cloud.ensure_server(order("oaks-node-1", THEIRS))

    told = "\n".join(cloud.holdings(OURS, "oak"))

    assert ("oak-node-1" in told, "oak-node-2" in told) == (True, True)
    assert ("elm" in told, "oaks" in told) == (False, False)
    assert list(cloud.holdings(OURS, "oaks")) == []
    assert names(cloud) == ["oak-node-1", "oak-node-2"]
