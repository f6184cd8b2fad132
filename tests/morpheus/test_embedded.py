"""Embedded mode as it is decided: what its machines are given, what is kept, what is refused."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from examples.embedded import forest as example
from morpheus.cloud import Server
from morpheus.embedded import EmbeddedOutfit, check_heal, check_mode, is_wanted
from morpheus.errors import InvalidInputError, RefusedError
from morpheus.forest import Forest, Lease, Node, Status
from morpheus.machine import WORKLOAD, places
from morpheus.machine.binaries import Binary
from morpheus.outfit import SUM
from morpheus.registry import document
from morpheus.registry.part import part_of
from morpheus.settings import IntegrationSettings, Settings
from tests import reader
from tests.vault.sample import some_secrets

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
BROUGHT = {"nats_server": "workload", "server_id": "7"}
EMBEDDED = IntegrationSettings(nats_install=False, nimsforest_install=True)
ADDRESSES = ("2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1")


def forest(**more: Any) -> Forest:
    nodes = (Node(f"oak-node-{k}", ip, metadata=BROUGHT) for k, ip in enumerate(ADDRESSES, 1))
    return Forest("oak", provider="hetzner", size="medium", created_at=NOW, **more).with_nodes(*nodes)


@pytest.fixture
def outfit(tmp_path: Path) -> EmbeddedOutfit:
    binary = tmp_path / "forest"
    binary.write_bytes(b"the workload")
    return EmbeddedOutfit(
        some_secrets(), Settings(integration=EMBEDDED), lambda _: (None, Binary(binary, "", "here"))
    )


# What a machine is given


def test_the_workload_has_a_place_of_its_own_and_nothing_of_nats_is_brought(
    outfit: EmbeddedOutfit,
) -> None:
    (node, *_) = forest().nodes

    (program,) = outfit.programs(node)
    told = outfit.server(forest(), node, places.LAYOUT)

    assert (program.path, program.content, program.mode) == (places.EMBEDDED_BINARY, b"the workload", 0o755)
    assert (told.name, told.argv) == (WORKLOAD, (places.EMBEDDED_BINARY,))
    assert told.env[SUM] == hashlib.sha256(b"the workload").hexdigest()
    assert told == outfit.workload(forest(), node)
    assert outfit.access is None


def test_all_that_is_configured_is_what_the_forest_knows_of_itself(outfit: EmbeddedOutfit) -> None:
    (file,) = outfit.files(forest(), forest().nodes[0], places.LAYOUT, lambda _: None)

    assert (file.path, file.mode) == ("/mnt/forest/registry.json", 0o644)
    assert file.content.decode() == part_of(forest())


def test_the_machines_record_says_whose_the_server_is(outfit: EmbeddedOutfit) -> None:
    server = outfit.measured(Node("oak-node-1"), Server("oak-node-1", ADDRESSES[0], {}, {"disk_gb": "40"}))

    assert server.metadata == {"disk_gb": "40", "nats_server": "workload"}
    assert Node("oak-node-1", metadata=server.metadata).is_embedded
    assert not Node("oak-node-1").is_embedded


# The part of the registry


def test_the_part_is_as_other_programs_read_the_registry() -> None:
    text = part_of(forest())

    for own in ADDRESSES:
        assert reader.routes(text, "oak", own) == [f"[{ip}]:6222" for ip in ADDRESSES if ip != own]


def test_who_holds_the_forest_is_nobodys_business_and_changes_nothing() -> None:
    lease = Lease("plant", "run", "ann@laptop", NOW, NOW)

    assert part_of(forest(lease=lease)) == part_of(forest())


def test_no_other_forest_is_in_it() -> None:
    told = document.parse(part_of(forest()))
    both = told.with_forest(Forest("elm", created_at=NOW).with_nodes(Node("elm-node-1", "2001:db8:0:9::1")))

    again = part_of(document.parse(document.render(both)).forests["oak"])

    assert again == part_of(forest())
    assert json.loads(again).keys() == {"version", "revision", "forests", "nodes", "digest"}


# What is refused


def test_the_mode_is_what_is_installed() -> None:
    assert is_wanted(EMBEDDED)
    assert not is_wanted(IntegrationSettings())
    with pytest.raises(InvalidInputError, match="both false"):
        is_wanted(IntegrationSettings(nats_install=False))


@pytest.mark.parametrize(("embedded", "metadata"), [(False, BROUGHT), (True, {})])
def test_a_forest_keeps_its_mode(embedded: bool, metadata: Mapping[str, str]) -> None:  # a parameter
    known = Forest("oak").with_nodes(Node("oak-node-1", ADDRESSES[0], metadata=metadata))

    with pytest.raises(RefusedError, match=f"Set integration.nats_install to {str(embedded).lower()}"):
        check_mode(known, embedded=embedded)
    check_mode(known, embedded=not embedded)
    check_mode(Forest("oak").with_nodes(Node("oak-node-1")), embedded=embedded)


def test_lost_stores_of_an_embedded_forest_are_its_workloads_affair() -> None:
    with pytest.raises(RefusedError, match=r"oak-node-2.*nothing was changed"):
        check_heal(forest(status=Status.ACTIVE), ("oak-node-2",))
    check_heal(forest(), ())
    check_heal(Forest("oak").with_nodes(Node("oak-node-1", ADDRESSES[0])), ("oak-node-1",))


# The example


INFO = {"forest_id": "oak", "node_id": "oak-node-2"}


def test_the_example_makes_a_route_of_every_other_node() -> None:
    registry = json.loads(part_of(forest()))

    told = example.config(INFO, registry, {ADDRESSES[1], "::1"}, monitored=True)

    routes = ", ".join(f'"nats-route://[{ip}]:6222"' for ip in (ADDRESSES[0], ADDRESSES[2]))
    assert f"  routes: [{routes}]\n" in told
    assert f'  listen: "[{ADDRESSES[1]}]:6222"\n' in told
    assert 'server_name: "oak-node-2"\n' in told


def test_the_example_opens_no_port_for_routes_where_it_is_alone() -> None:
    alone = {"nodes": {"oak": [{"id": "oak-node-2", "ip": ADDRESSES[1]}]}}

    registries: tuple[dict[str, Any], ...] = (alone, {"nodes": {}}, {})
    for registry in registries:
        told = example.config(INFO, registry, {ADDRESSES[1]}, monitored=False)
        assert "6222" not in told
        assert "8222" not in told


def test_the_example_knows_its_own_addresses_as_the_registry_spells_them() -> None:
    assert "::1" in example.own_addresses()
