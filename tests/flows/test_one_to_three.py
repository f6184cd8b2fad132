"""A forest of one becomes one of three under load: nothing is lost, and what fails is undone."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import _migration
from flows._machines import Ground
from flows.grow import go_on, grow
from flows.plant import plant
from flows.teardown import teardown
from morpheus import folders, site
from morpheus.errors import MachineError, MorpheusError, RefusedError
from morpheus.files import make_folder
from morpheus.forest import Forest, Node, Status
from morpheus.machine import NATS
from morpheus.machine.beside.local import LocalBeside, LocalFence
from morpheus.machine.local import LocalMachine
from morpheus.migration import Phase
from morpheus.nats.admin import api, connected
from morpheus.nats.config import client_url
from morpheus.plan import torn
from morpheus.registry.lease import Hold
from tests.flows.traffic import copies, traffic

pytestmark = pytest.mark.long

OUTAGE = 12.0  # seconds in which a publisher may get no acknowledgement


class Here:
    """The forest that stands in this user's data."""

    def __init__(self, data: Path) -> None:
        self.data = data

    @property
    def oak(self) -> Forest:
        forest = site.local_registry().find("oak")
        assert forest is not None
        return forest

    def folder(self, name: str) -> Path:
        return self.data / "forests" / "oak" / name


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path))
    yield Here(tmp_path)
    with contextlib.suppress(MorpheusError):
        teardown("oak", cloud="local")


def is_whole(here: Here) -> bool:
    oak = here.oak
    assert oak.migration
    assert oak.migration.phase == Phase.KEPT
    assert (oak.status, len(oak.nodes)) == (Status.ACTIVE, 3)
    return {node.status for node in oak.nodes} == {Status.ACTIVE}


async def make_stream(forest: Forest) -> None:
    async with connected([client_url(forest.nodes[0])]) as client:
        await api(client, "$JS.API.STREAM.CREATE.leaf", {"name": "leaf", "subjects": ["leaf"]})


SHORT = 8.0  # seconds after which a fence that nobody renews lifts itself here
BEFORE_COMMIT = ["raise_beside", "bring_over", "check_restored", "fence.close"]


class StoppedError(Exception):
    """Nothing more happens, as when the process is killed."""


@contextlib.contextmanager
def stopped_at(step: str) -> Iterator[None]:
    """What moves streams stops as it is about to do *step*."""

    def stop(*_: object, **__: object) -> None:
        raise StoppedError(step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_migration, "LIFTS_AFTER", SHORT)
        place, _, name = step.rpartition(".")
        patch.setattr(LocalFence if place else _migration, name, stop)
        yield


def test_one_becomes_three_under_load_and_loses_nothing(here: Here) -> None:
    plant("oak", nodes=1, cloud="local")
    before = client_url(here.oak.nodes[0])

    with traffic(here.oak, copies=1) as programs:
        grown = grow("oak", cloud="local")

    assert is_whole(here)
    assert grown.fresh == ("oak-node-2", "oak-node-3")
    assert client_url(here.oak.node("oak-node-1")) == before
    assert (here.folder("oak-node-1") / "store-before").is_dir()
    left = {each.name for each in here.folder("oak-node-1").iterdir()}
    assert not {"beside", "fence", "archives"} & left
    assert programs.gap < OUTAGE


@pytest.mark.parametrize("step", BEFORE_COMMIT)
def test_what_fails_before_the_old_server_is_stopped_leaves_the_forest_as_it_was(
    step: str, here: Here
) -> None:
    plant("oak", nodes=1, cloud="local")
    old = here.oak.nodes[0]

    with traffic(here.oak, copies=1), stopped_at(step), pytest.raises(StoppedError):
        grow("oak", cloud="local")

    oak = here.oak
    assert (oak.status, oak.migration, oak.nodes) == (Status.ACTIVE, None, (old,))
    assert {each.name for each in (here.data / "forests" / "oak").iterdir()} == {"oak-node-1"}
    assert not {"beside", "fence", "archives"} & {each.name for each in here.folder(old.name).iterdir()}


def test_nothing_else_is_done_with_it_until_it_is_finished(here: Here) -> None:
    plant("oak", nodes=1, cloud="local")

    with stopped_at("finish"), pytest.raises(StoppedError):
        grow("oak", cloud="local")
    with pytest.raises(RefusedError, match="Finish that first with morpheus grow oak"):
        plant("oak", cloud="local")
    grow("oak", cloud="local")

    assert is_whole(here)


def test_what_was_begun_before_is_claimed_all_the_time_and_streams_get_three_copies(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for room has taken back what the first run made; its budget is nobody else's meanwhile."""
    plant("oak", nodes=1, cloud="local")
    asyncio.run(make_stream(here.oak))
    with stopped_at("raise_beside"), pytest.raises(StoppedError):
        grow("oak", nodes=5, cloud="local", keep=True)
    left = folders.data_dir() / "archives" / "oak"
    make_folder(left)
    claimed: list[int] = []

    def ask(forest: Forest, *rest: Any) -> int:
        claimed.append(len(here.oak.nodes))
        return _migration.room_to_move(forest, *rest)

    monkeypatch.setattr("flows.grow.room_to_move", ask)
    grow("oak", cloud="local")

    assert (claimed, len(here.oak.nodes)) == ([5], 5)
    assert {len(each) for each in copies(here.oak).values()} == {3}
    assert not left.exists()


def test_what_stands_by_leaves_alone_what_is_gone_or_torn_down(here: Here) -> None:
    slugs = "local", "settings", "settings"
    go_on("oak", *slugs)

    plant("oak", nodes=1, cloud="local")
    with stopped_at("bring_over"), pytest.raises(StoppedError):
        grow("oak", cloud="local", keep=True)
    left = here.oak
    site.local_registry().update(lambda document, _: document.with_forest(torn(left)))
    go_on("oak", *slugs)
    assert here.oak == torn(left)

    site.local_registry().update(lambda document, _: document.with_forest(left))
    go_on("oak", *slugs)
    assert (here.oak.status, here.oak.migration, len(here.oak.nodes)) == (Status.ACTIVE, None, 1)


def test_what_was_committed_by_a_write_without_an_answer_is_not_undone(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant("oak", nodes=1, cloud="local")
    note = _migration.note

    def lose_the_answer(hold: Hold, phase: Phase) -> None:
        before = hold.forest
        note(hold, phase)
        if phase is Phase.COMMITTED:
            hold.forest = before
            raise StoppedError(phase)

    with traffic(here.oak, copies=1):
        monkeypatch.setattr(_migration, "note", lose_the_answer)
        with pytest.raises(StoppedError):
            grow("oak", cloud="local")
        assert here.oak.migration
        assert (here.oak.migration.phase, len(here.oak.nodes)) == (Phase.COMMITTED, 3)
        grow("oak", cloud="local")

    assert is_whole(here)


def test_a_port_that_another_program_takes_meanwhile_is_chosen_again(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant("oak", nodes=1, cloud="local")
    serve, taken = _migration.serve, contextlib.ExitStack()

    def late(ground: Ground, forest: Forest, node: Node, *rest: Any) -> None:
        if node.name == "oak-node-2" and not made:
            made.append(taken.enter_context(socket.create_server(("127.0.0.1", node.ports.client))))
        serve(ground, forest, node, *rest)

    made: list[socket.socket] = []
    monkeypatch.setattr(_migration, "serve", late)
    with taken:
        grow("oak", cloud="local")

    assert made
    assert is_whole(here)


def test_an_old_store_is_never_opened_by_a_cluster(here: Here) -> None:
    """The new store is gone, which nothing of ours does: what was never exchanged is not finished."""
    plant("oak", nodes=1, cloud="local")
    asyncio.run(make_stream(here.oak))
    with stopped_at("finish"), pytest.raises(StoppedError):
        grow("oak", cloud="local")
    beside, kept = here.folder("oak-node-1") / "beside", here.data / "kept"
    LocalBeside(LocalMachine("oak-node-1", beside.parent)).machine.stop(NATS)
    beside.rename(kept)

    with pytest.raises(MachineError, match="The new store on the machine of oak-node-1 is gone"):
        grow("oak", cloud="local")

    kept.rename(beside)
    grow("oak", cloud="local")
    assert is_whole(here)
