"""Planting: a forest stands or nothing of the run is left, whatever fails and whenever."""

import logging
import threading
from collections.abc import Iterator
from contextvars import copy_context
from dataclasses import replace

import pytest

from flows.plant import plant
from morpheus import site
from morpheus.errors import (
    ForestBusyError,
    InvalidInputError,
    LeaseLostError,
    MachineError,
    MorpheusError,
    PortTakenError,
    RefusedError,
    RegistryBrokenError,
    UnreachableError,
)
from morpheus.forest import Status
from morpheus.registry.lease import Claim, Hold
from tests.flows.conftest import Hilly

BROKEN = MachineError("broken on purpose")


def nothing_is_left(land: Hilly, name: str) -> None:
    document = land.registry.read()
    assert name not in document.forests
    assert land.hills.list_servers(document.registry_id or "", name) == []
    assert not any(land.hills.pids(name).values())
    assert site.access_folder().find(name) is None


def test_a_forest_stands_and_is_recorded_as_other_programs_read_it(land: Hilly) -> None:
    planted = plant("oak", nodes=3)

    forest = land.forest("oak")
    assert planted.forest.staying == forest.staying
    assert forest.status == Status.ACTIVE
    assert forest.lease is None
    assert len({node.ip for node in forest.staying}) == 3
    assert all(land.hills.pids("oak").values())
    assert len(land.store.texts) >= 4  # reserved, addresses, active, lease given back: each was read


@pytest.mark.long
def test_planting_again_creates_nothing_and_restarts_nothing(land: Hilly) -> None:
    first, before = plant("oak", nodes=3), land.hills.pids("oak")
    land.effects.seen.clear()

    second = plant("oak")

    assert second.forest.staying == first.forest.staying
    assert land.hills.pids("oak") == before
    assert land.effects.matching("create *") == []
    assert land.effects.matching("delete *") == []


@pytest.mark.long
def test_planting_again_replaces_a_node_that_lost_its_store(land: Hilly) -> None:
    plant("oak", nodes=3)
    before = land.hills.pids("oak")
    land.hills.lose("oak-node-2")

    healed = plant("oak")

    assert [node.name for node in healed.forest.staying] == ["oak-node-1", "oak-node-3", "oak-node-4"]
    assert land.forest("oak").nodes == healed.forest.nodes
    assert {"oak-node-1": before["oak-node-1"], "oak-node-3": before["oak-node-3"]}.items() <= (
        land.hills.pids("oak").items()
    )
    assert not land.hills.folder("oak-node-2").exists()


@pytest.mark.long
@pytest.mark.parametrize("pattern", ["create oak-node-2", "put oak-node-1 *", "start oak-node-3 *"])
def test_an_interrupted_plant_is_completed(land: Hilly, pattern: str) -> None:
    with land.effects.failing(pattern, BROKEN), pytest.raises(MachineError):
        plant("oak", nodes=3, keep=True)
    assert land.forest("oak").status == Status.PROVISIONING
    kept = {name: pid for name, pid in land.hills.pids("oak").items() if pid}

    again = plant("oak", nodes=3)

    assert [node.name for node in again.forest.staying] == [f"oak-node-{k}" for k in (1, 2, 3)]
    assert again.forest.status == Status.ACTIVE
    assert kept.items() <= land.hills.pids("oak").items()  # what ran was not started again


@pytest.mark.long
def test_failing_at_any_effect_leaves_nothing_of_the_run_and_all_of_before(land: Hilly) -> None:
    plant("elm", nodes=1)
    elm, elms_pids = land.forest("elm"), land.hills.pids("elm")
    land.effects.seen.clear()
    plant("fir0", nodes=1)
    effects = [each for each in land.effects.seen if "elm" not in each or each.startswith("record")]
    writes = sum(each.startswith("record") for each in effects)
    assert {each.split()[0] for each in effects} == {
        "record",
        "create",
        "created",
        "put",
        "start",
        "started",
        "reach",
    }

    for k in range(len(effects) - 1):  # the last one gives the lease back, when all is done
        name = f"fir{k + 1}"
        error = RegistryBrokenError("disk full") if effects[k].startswith("record") else BROKEN
        with land.effects.failing("*", error, after=k), pytest.raises(type(error)):
            plant(name, nodes=1)
        nothing_is_left(land, name)

    assert writes == 4
    assert land.forest("elm") == elm
    assert land.hills.pids("elm") == elms_pids


@pytest.mark.parametrize(
    "pattern",
    [
        "created oak-node-2",
        pytest.param("put oak-node-3 cluster.conf", marks=pytest.mark.long),
        pytest.param("started oak-node-1 *", marks=pytest.mark.long),
        pytest.param("reach oak-node-3 4000", marks=pytest.mark.long),
    ],
)
def test_a_failing_node_takes_its_siblings_along(land: Hilly, pattern: str) -> None:
    with land.effects.failing(pattern, BROKEN), pytest.raises(MachineError, match="on purpose"):
        plant("oak", nodes=3)

    assert land.effects.matching(pattern)
    nothing_is_left(land, "oak")


def test_what_cannot_be_taken_back_is_said_and_stays_recorded(
    land: Hilly, caplog: pytest.LogCaptureFixture
) -> None:
    away = MachineError("the cloud is away")
    with (
        land.effects.failing("created oak-node-2", BROKEN),
        land.effects.failing("delete oak-node-1", away),
        pytest.raises(MachineError, match="on purpose"),
    ):
        plant("oak", nodes=3)

    (said,) = [each.getMessage() for each in caplog.records if "could not all be removed" in each.message]
    assert "the cloud is away" in said
    assert "morpheus teardown oak" in said
    assert "oak-node-1" in {node.name for node in land.forest("oak").nodes}
    assert plant("oak", nodes=3).forest.status == Status.ACTIVE


@pytest.mark.long
def test_what_opens_a_forest_goes_before_its_record(land: Hilly) -> None:
    """A process that is ended in between leaves a record, by which the next one finds the rest."""
    there = []
    with (
        land.effects.failing("start oak-node-1 nats", MachineError("broken")),
        land.effects.failing(
            "record ", MachineError(""), times=0, first=lambda: there.append(site.access_folder().find("oak"))
        ),
        pytest.raises(MachineError, match="broken"),
    ):
        plant("oak", nodes=1)

    assert there == [None]
    nothing_is_left(land, "oak")


def test_a_heal_that_fails_anywhere_leaves_the_survivors_and_can_be_finished(land: Hilly) -> None:
    plant("oak", nodes=3)
    before = land.hills.pids("oak")
    survivors = {name: before[name] for name in ("oak-node-1", "oak-node-3")}
    land.hills.lose("oak-node-2")

    for pattern in ("reach *", "delete *", "created *", "put * nats.conf", "start *", "reach * 4000"):
        with land.effects.failing(pattern, BROKEN), pytest.raises(MachineError, match="on purpose"):
            plant("oak")
        assert survivors.items() <= land.hills.pids("oak").items(), pattern
        assert {*survivors} <= {node.name for node in land.forest("oak").staying}, pattern
        assert land.forest("oak").status == Status.ACTIVE

    healed = plant("oak")
    assert len(healed.forest.staying) == 3
    assert healed.forest.nodes == healed.forest.staying
    assert survivors.items() <= land.hills.pids("oak").items()


@pytest.mark.long
def test_another_size_is_refused_and_names_grow(land: Hilly) -> None:
    plant("oak", nodes=1)

    with pytest.raises(RefusedError, match="morpheus grow oak"):
        plant("oak", size="medium")

    assert len(land.forest("oak").staying) == 1


def test_a_name_that_another_registry_records_is_refused(land: Hilly) -> None:
    plant("oak", nodes=1)

    with pytest.raises(RefusedError, match="choose another name"):
        plant("oak", nodes=1, cloud="local")


def test_a_forest_that_somebody_else_holds_is_refused(land: Hilly) -> None:
    plant("oak", nodes=1)
    claim = Claim("oak", "teardown", "another-run")
    another = Hold(land.registry, claim, lambda document, _: document, margin=1.0)
    land.effects.seen.clear()

    with another, pytest.raises(ForestBusyError, match="teardown"):
        plant("oak")

    assert land.effects.matching("create *") + land.effects.matching("put *") == []


@pytest.mark.long
def test_two_plants_at_once_make_one_forest(land: Hilly) -> None:
    """One of them plants; the other is told that the forest is held, or finds it complete."""
    ends: list[object] = []

    def run() -> None:
        try:
            ends.append(plant("oak", nodes=1).forest.name)
        except MorpheusError as error:
            ends.append(type(error))

    # A thread knows Prefect's settings of the test only with its context.
    threads = [threading.Thread(target=copy_context().run, args=(run,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert "oak" in ends
    assert {*ends} <= {"oak", ForestBusyError}
    assert list(land.hills.pids("oak")) == ["oak-node-1"]


def test_what_may_pass_is_tried_again(land: Hilly, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "morpheus.tasks")
    with land.effects.failing("create oak-node-1", UnreachableError("not now")):
        plant("oak", nodes=1)

    assert len(land.effects.matching("create oak-node-1")) == 2
    assert "ensure-oak-node-1 is tried again: not now" in caplog.messages


def test_an_even_size_is_told_before_anything_is_made(land: Hilly, caplog: pytest.LogCaptureFixture) -> None:
    with land.effects.failing("create *", BROKEN, times=4), pytest.raises(MachineError, match="on purpose"):
        plant("oak", nodes=4)

    assert [each for each in caplog.messages if "an odd number is the better choice" in each] == [
        "4 nodes survive no more failures than 3: an odd number is the better choice."
    ]


@pytest.mark.parametrize("error", [BROKEN, RefusedError("no"), ZeroDivisionError("a fault of ours")])
def test_what_cannot_pass_is_not_tried_again(land: Hilly, error: Exception) -> None:
    with land.effects.failing("create oak-node-1", error), pytest.raises(type(error)):
        plant("oak", nodes=1)

    assert len(land.effects.matching("create oak-node-1")) == 1
    nothing_is_left(land, "oak")


def test_what_failed_because_the_forest_was_taken_over_is_told_so(land: Hilly) -> None:
    """Who stood still may find its machine gone before it finds its lease gone."""

    def taken_over() -> Iterator[Exception]:
        land.registry.update(lambda document, _: replace(document, epochs={"oak": 99}))
        yield BROKEN

    land.effects._failing["put oak-node-1 cluster.conf"] = taken_over()

    with pytest.raises(LeaseLostError, match="took oak over"):
        plant("oak", nodes=1)

    assert land.forest("oak").nodes[0].ip


@pytest.mark.long
def test_a_port_that_was_taken_meanwhile_is_chosen_again(land: Hilly) -> None:
    with land.effects.failing("start oak-node-1 nats", PortTakenError("taken")):
        plant("oak", nodes=1)

    assert len(land.effects.matching("create oak-node-1")) == 2


def test_without_a_name_the_run_makes_one_up(land: Hilly) -> None:
    name = plant(nodes=1).forest.name

    assert land.forest(name).status == Status.ACTIVE


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"name": "Oak"}, "cannot name a forest"),
        ({"name": "x" * 51}, "cannot name a forest"),
        ({"nodes": 2}, "Two nodes"),
        ({"size": "small", "nodes": 3}, "small means 1"),
        ({"cloud": "no-such-type/block"}, "neither settings, nor local"),
        ({"registry": "no-such-type/block"}, "neither settings, nor local"),
    ],
)
def test_bad_input_is_refused_before_anything_happens(
    land: Hilly, parameters: dict[str, object], sentence: str
) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        plant(**parameters)  # type: ignore[call-overload]  # the wrong kinds are the point

    assert land.effects.seen == []
