"""Tearing down: machines first, the record last, and nothing forgotten that still exists."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.plant import plant
from flows.teardown import teardown
from morpheus import site
from morpheus.cloud import Order
from morpheus.errors import (
    ForestNotFoundError,
    InvalidInputError,
    MachineError,
    RefusedError,
    RegistryBrokenError,
    UnreachableError,
)
from morpheus.forest import Node, Status
from morpheus.history import History
from morpheus.plan import Wanted, activated, addressed, reserve
from morpheus.registry.document import Document
from morpheus.trend import Point
from tests import reader
from tests.flows.conftest import Flat

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def planted(flat: Flat, name: str = "oak", nodes: int = 3) -> None:
    """Record an active forest and have its machines, with no server on them."""
    wanted = Wanted(name, nodes, flat.cloud.provider, registry_url=flat.store.url, run="a-run")
    document = flat.registry.update(lambda document, now: document.with_forest(reserve(None, wanted, now)))
    forest = document.forests[name]
    servers = [flat.cloud.ensure_server(order(flat, node.name)) for node in forest.nodes]
    flat.registry.update(lambda document, _: document.with_forest(activated(addressed(forest, servers))))
    site.access_folder().ensure(name)
    flat.effects.seen.clear()
    flat.store.texts.clear()


def order(flat: Flat, node: str) -> Order:
    return Order(node, node.rpartition("-node-")[0], flat.registry.read().registry_id or "", "a-run")


def test_machines_go_first_and_the_record_last(flat: Flat) -> None:
    planted(flat)

    assert teardown("oak") == ("oak-node-1", "oak-node-2", "oak-node-3")

    assert flat.cloud.servers == {}
    assert flat.registry.read().forests == {}
    assert site.access_folder().find("oak") is None
    forgot = flat.effects.seen.index("record ")  # the first text without the forest
    assert flat.effects.matching("delete *") == [
        x for x in flat.effects.seen[:forgot] if x.startswith("delete")
    ]
    assert len(flat.effects.matching("delete *")) == 3


def test_the_readings_of_a_forest_go_with_it(flat: Flat) -> None:
    planted(flat)
    readings = History(flat.store.place, flat.forest("oak"))
    assert readings.add(Point(NOW, 3))
    assert flat.store.beside() == ["readings/oak"]

    teardown("oak")

    assert flat.store.beside() == []


def test_readings_that_cannot_be_removed_keep_no_forest(
    flat: Flat, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    planted(flat)
    History(flat.store.place, flat.forest("oak")).add(Point(NOW, 3))

    def broken(_: str) -> None:
        raise RegistryBrokenError("Its folder cannot be written.")

    monkeypatch.setattr(flat.store.place("readings/oak"), "remove", broken)

    teardown("oak")

    assert flat.registry.read().forests == {}
    assert "the readings of oak stay: Its folder cannot be written." in caplog.text


@pytest.mark.long
def test_no_program_routes_to_a_machine_on_its_way_out(flat: Flat) -> None:
    planted(flat)

    with flat.effects.failing("delete *", MachineError("no"), times=3), pytest.raises(MachineError):
        teardown("oak")

    assert reader.routes(flat.store.texts[0], "oak", "2001:db8::99") == []
    assert len(flat.cloud.servers) == 3


@pytest.mark.long
def test_a_failing_delete_keeps_the_record_and_running_again_finishes(flat: Flat) -> None:
    planted(flat)

    broken = flat.effects.failing("delete oak-node-2", MachineError("broken on purpose"))
    with broken, pytest.raises(MachineError, match="on purpose"):
        teardown("oak")

    forest = flat.forest("oak")
    assert forest.status == Status.DELETING
    assert forest.lease is None
    assert list(flat.cloud.servers) == ["oak-node-2"]
    with pytest.raises(RefusedError, match="morpheus teardown oak"):
        plant("oak")
    teardown("oak")
    assert flat.cloud.servers == {}
    assert flat.registry.read().forests == {}


@pytest.mark.long
def test_what_may_pass_is_tried_again(flat: Flat) -> None:
    planted(flat, nodes=1)

    with flat.effects.failing("delete oak-node-1", UnreachableError("not now")):
        teardown("oak")

    assert len(flat.effects.matching("delete oak-node-1")) == 2
    assert flat.cloud.servers == {}


@pytest.mark.long
def test_what_is_recorded_under_a_foreign_name_is_left_alone_and_named(
    flat: Flat, caplog: pytest.LogCaptureFixture
) -> None:
    planted(flat, nodes=1)
    flat.cloud.ensure_server(order(flat, "elm-node-1"))
    foreign = Node("elm-node-1")
    flat.registry.update(
        lambda document, _: document.with_forest(document.forests["oak"].with_nodes(foreign))
    )

    assert teardown("oak") == ("oak-node-1",)

    assert list(flat.cloud.servers) == ["elm-node-1"]
    assert "'elm-node-1', which is no node of it and was not touched" in caplog.text


@pytest.mark.long
def test_a_delete_that_only_says_so_keeps_the_record(flat: Flat) -> None:
    """The cloud is asked again before anything is forgotten."""
    planted(flat, nodes=1)
    again = order(flat, "oak-node-1")

    def resurrect(verb: str, subject: str) -> None:
        if verb == "delete":
            flat.cloud.ensure_server(again)

    flat.cloud.script.after = resurrect
    with pytest.raises(MachineError, match="still exist"):
        teardown("oak")

    assert flat.forest("oak").status == Status.DELETING


def test_unrecorded_machines_of_ours_go_and_those_of_others_stay(flat: Flat) -> None:
    planted(flat, nodes=1)
    flat.cloud.ensure_server(order(flat, "oak-node-7"))
    flat.cloud.ensure_server(order(flat, "oaken-node-1"))
    flat.cloud.ensure_server(Order("oak-node-8", "oak", "another-registry", "a-run"))

    assert teardown("oak") == ("oak-node-1", "oak-node-7")

    assert sorted(flat.cloud.servers) == ["oak-node-8", "oaken-node-1"]


def test_machines_of_this_machine_that_no_record_knows_go_too(flat: Flat) -> None:
    registry, cloud = site.local_registry(), site.local_cloud()
    registry.update(lambda document, _: Document(registry_id="mine", extra=document.extra))
    registry_id = registry.update(lambda document, _: document).registry_id or ""
    cloud.ensure_server(Order("elm-node-1", "elm", registry_id, "a-run"))

    assert teardown("elm") == ("elm-node-1",)

    assert cloud.list_servers(registry_id, "elm") == []
    assert registry.read().forests == {}


def test_without_a_name_it_fails_and_lists_the_names(flat: Flat) -> None:
    planted(flat)
    planted(flat, "elm", nodes=1)

    with pytest.raises(InvalidInputError, match=r"The forests are: elm, oak\."):
        teardown()

    assert len(flat.cloud.servers) == 4


def test_a_forest_that_is_not_there_lists_those_that_are(flat: Flat) -> None:
    planted(flat)

    with pytest.raises(ForestNotFoundError, match=r"no forest elm\. The forests are: oak"):
        teardown("elm")


def test_the_registry_of_this_machine_is_not_touched(flat: Flat, tmp_path: Path) -> None:
    planted(flat, nodes=1)

    teardown("oak")

    assert not (tmp_path / "data" / "local.json").exists()
