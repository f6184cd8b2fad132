"""Taking back: what no record knows goes, what somebody recorded stays."""

import pytest

from flows._undo import give_back, undo
from morpheus.cloud import Order
from morpheus.forest import Forest, Node, Status
from morpheus.machine import NATS, Program
from morpheus.registry import Registry
from morpheus.registry.lease import Claim, Hold
from tests.fake_cloud import FakeCloud
from tests.fakes import MemoryStore


def test_a_machine_whose_record_was_refused_is_deleted_unless_somebody_else_recorded_it() -> None:
    cloud, registry = FakeCloud(), Registry(MemoryStore())
    forest = Forest("oak").with_nodes(Node("oak-node-1"), Node("oak-node-2"))
    claim = Claim("oak", "plant", "ours")
    hold = Hold(registry, claim, lambda document, _: document.with_forest(forest), margin=0.0)
    servers = [cloud.ensure_server(Order(f"oak-node-{k}", "oak", hold.registry_id, "ours")) for k in (1, 2)]
    registry.update(lambda document, _: document.with_forest(forest.without("oak-node-1")))

    give_back(cloud, hold, servers, "ours")

    assert [each.name for each in cloud.list_servers(hold.registry_id, "oak")] == ["oak-node-2"]


def test_a_machine_of_another_run_is_not_ours_to_take_back() -> None:
    cloud, registry = FakeCloud(), Registry(MemoryStore())
    claim = Claim("oak", "plant", "ours")
    hold = Hold(registry, claim, lambda document, _: document.with_forest(Forest("oak")), margin=0.0)
    server = cloud.ensure_server(Order("oak-node-1", "oak", hold.registry_id, "theirs"))
    registry.update(lambda document, _: document.without_forest("oak"))

    give_back(cloud, hold, [server], "ours")

    assert list(cloud.list_servers(hold.registry_id, "oak")) == [server]


def test_what_stays_is_said_once_although_a_hook_looks_again(caplog: pytest.LogCaptureFixture) -> None:
    cloud, registry = FakeCloud(), Registry(MemoryStore())
    old = Node("oak-node-1", "2001:db8::1", Status.ACTIVE)
    forest = Forest("oak", status=Status.ACTIVE).with_nodes(old, Node("oak-node-2", run="ours"))
    claim = Claim("oak", "plant", "ours")
    hold = Hold(registry, claim, lambda document, _: document.with_forest(forest), margin=0.0)
    server = cloud.ensure_server(Order("oak-node-2", "oak", hold.registry_id, "ours"))
    cloud.machine(server).start(Program(NATS, ("/bin/sh",)))

    undo(cloud, hold, "ours", None)
    undo(cloud, hold, "ours", None)

    assert list(cloud.list_servers(hold.registry_id, "oak")) == [server]
    assert caplog.messages == [
        "oak-node-2 stays: it may hold data of the running cluster; plant again to finish"
    ]
