"""The old store of a forest that became a cluster goes when somebody says so, or when its time is over."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from flows.discard import discard_old_store
from flows.grow_check import grow_check
from flows.plant import plant
from flows.teardown import teardown
from morpheus import site, vitals
from morpheus.errors import ForestBusyError, ForestNotFoundError, MachineError, MorpheusError, RefusedError
from morpheus.forest import Forest, Migration
from morpheus.machine import NATS, processes
from morpheus.migration import Phase
from morpheus.registry.document import Document
from morpheus.registry.lease import Claim, Hold
from tests.flows.homes import UNMOVED

DAY = timedelta(days=1)


class Here:
    """A forest of three on this computer, of which the first node keeps an old store."""

    def __init__(self, data: Path) -> None:
        self.nodes = data / "forests" / "oak"
        self.store = self.nodes / "oak-node-1" / "store-before"

    @property
    def oak(self) -> Forest:
        forest = site.local_registry().find("oak")
        assert forest is not None
        return forest

    def record(self, *, phase: str = Phase.KEPT, node: str = "oak-node-1", left: timedelta = DAY) -> None:
        """Record the move that it comes from; its time is over when so much is *left*."""

        def moved(document: Document, now: datetime) -> Document:
            migration = Migration(phase, "run", node, "beside", now - DAY, 2**20, now + left)
            return document.with_forest(replace(document.forests["oak"], migration=migration))

        site.local_registry().update(moved)

    def leave_store(self) -> None:
        (self.store / "jetstream").mkdir(parents=True)
        (self.store / "jetstream" / "1.blk").write_bytes(b"leaves")

    def pids(self) -> dict[str, int]:
        found = {each.name: processes.find(each, NATS) for each in sorted(self.nodes.glob("oak-node-*"))}
        return {name: process.pid for name, process in found.items() if process}


@pytest.fixture(scope="module")
def woods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    data = tmp_path_factory.mktemp("data")
    (data / "morpheus.yaml").write_text(json.dumps({"growth": UNMOVED}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MORPHEUS_DATA_DIR", str(data))
        patch.setenv("MORPHEUS_CONFIG", str(data / "morpheus.yaml"))
        patch.setattr(vitals, "WINDOW", 0.3)
        plant("oak", nodes=3, cloud="local")
        yield Here(data)
        with contextlib.suppress(MorpheusError):
            teardown("oak", cloud="local")


@pytest.fixture
def here(woods: Here) -> Iterator[Here]:
    woods.leave_store()
    woods.record()
    yield woods
    woods.store.unlink() if woods.store.is_symlink() else discard_all(woods)


def discard_all(woods: Here) -> None:
    if woods.store.exists():
        woods.record()
        discard_old_store("oak")


def test_somebody_discards_it_and_the_cluster_stays_as_it_is(here: Here) -> None:
    before, pids = here.oak, here.pids()

    assert discard_old_store("oak") is True

    assert not here.store.exists()
    assert here.oak == replace(before, migration=None)
    assert here.pids() == pids
    assert len(pids) == 3
    assert discard_old_store("oak") is False


def test_a_check_discards_it_once_its_time_is_over(here: Here) -> None:
    assert grow_check("oak") == {"oak": "nothing"}
    assert here.store.exists()
    assert here.oak.migration

    here.record(left=-DAY)
    assert grow_check("oak") == {"oak": "nothing"}

    assert not here.store.exists()
    assert here.oak.migration is None


def test_a_check_leaves_it_to_a_forest_that_is_not_well(here: Here) -> None:
    here.record(left=-DAY)
    processes.stop(here.nodes / "oak-node-2", NATS)
    try:
        assert grow_check("oak") == {"oak": "unhealthy"}
        assert here.store.exists()
    finally:
        plant("oak", cloud="local")

    assert grow_check("oak") == {"oak": "nothing"}
    assert not here.store.exists()


@pytest.mark.parametrize("phase", list(Phase)[:-1])
def test_what_is_on_its_way_keeps_it(here: Here, phase: Phase) -> None:
    here.record(phase=phase, left=-DAY)

    with pytest.raises(RefusedError, match="Finish that first with morpheus grow oak"):
        discard_old_store("oak")
    assert discard_old_store("oak", asked=False) is False

    assert here.store.exists()
    assert here.oak.lease is None


def test_one_that_cannot_be_removed_stays_recorded_and_keeps_nobody_from_the_other_checks(
    here: Here, tmp_path: Path
) -> None:
    """A link in its place is another one's; the forest beside is looked at all the same."""
    plant("larch", nodes=1, cloud="local")
    discard_old_store("oak")
    here.store.symlink_to(tmp_path)
    here.record(left=-DAY)
    try:
        with pytest.raises(
            MachineError, match=r"1 went wrong: oak: The old store .* cannot be removed: .*by hand"
        ):
            grow_check()
    finally:
        teardown("larch", cloud="local")

    assert tmp_path.is_dir()
    assert here.oak.migration
    assert here.oak.lease is None
    here.store.unlink()
    assert grow_check("oak") == {"oak": "nothing"}
    assert here.oak.migration is None


@pytest.mark.parametrize("gone", ["store", "node"])
def test_what_is_gone_already_is_only_forgotten(here: Here, gone: str) -> None:
    """As where a run was killed before it could record that, or where the node left with it."""
    discard_old_store("oak")
    here.record(node="oak-node-1" if gone == "store" else "oak-node-7")

    assert discard_old_store("oak") is True

    assert here.oak.migration is None


def test_a_forest_that_is_held_keeps_it_for_now(here: Here) -> None:
    here.record(left=-DAY)
    held = Hold(site.local_registry(), Claim("oak", "plant", "other"), lambda document, _: document, margin=0)
    with held:
        with pytest.raises(ForestBusyError):
            discard_old_store("oak")
        assert grow_check("oak") == {"oak": "nothing"}
        assert here.store.exists()


def test_an_unknown_forest_has_none(here: Here) -> None:
    with pytest.raises(ForestNotFoundError, match="The forests are: oak"):
        discard_old_store("elm")
