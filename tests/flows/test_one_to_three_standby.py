"""What stands by goes on with a move whose command was killed; and the old machine may be lost by then."""

import asyncio
import contextlib
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.js.api import StreamConfig

from flows import _standby
from flows._standby import MODULE, STOOD_BY, log_of
from flows.grow import grow
from morpheus.forest import Forest, Node, Status
from morpheus.machine import NATS, processes
from morpheus.migration import Phase, is_moving
from morpheus.nats.config import client_url
from tests.flows.killing import (
    CLOSED,
    EXCHANGE,
    MARGIN,
    OPEN,
    ended,
    kill_at,
    kill_both_at,
    planted,
    run_again,
)
from tests.flows.test_one_to_three import Here, is_whole
from tests.flows.traffic import connection, copies, insist, traffic
from tests.nats.grove import wait_for
from tests.servers import free_port

LOOPBACK = "127.0.0.1"
HELD = 100  # messages
GOES_ON = 90.0  # seconds for what stands by

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    with planted(tmp_path, monkeypatch) as here:
        yield here


@pytest.mark.parametrize("step", [*list(OPEN)[::3], *CLOSED])
def test_what_stands_by_goes_on_with_it_and_nobody_has_to(step: str, here: Here) -> None:
    """It undoes what is not committed, and finishes what is."""
    committed = CLOSED.get(step, (Phase.PREPARED,))[0] is Phase.COMMITTED
    before = here.oak.nodes

    with traffic(here.oak, copies=1) as programs:
        kill_at(step, "alone")
        wait_for(lambda: is_moving(here.oak), lambda moving: not moving, timeout=GOES_ON)
        seen = programs.acknowledged
        wait_for(lambda: programs.acknowledged > seen + 50, bool, timeout=MARGIN)

    assert is_whole(here) if committed else here.oak.nodes == before
    wait_for(lambda: log_of("oak").exists(), lambda there: not there, timeout=MARGIN)


def test_what_stands_by_goes_on_also_where_the_prefect_server_went_with_the_run(here: Here) -> None:
    kill_both_at("flows._migration:finish", here, Phase.COMMITTED)
    dead = f"http://127.0.0.1:{free_port()}/api"

    done = ended(
        sys.executable, "-m", MODULE, "wait", "oak", "local", "settings", "settings", PREFECT_API_URL=dead
    )

    assert done.returncode == 0
    assert is_whole(here)


def test_what_cannot_stand_by_keeps_no_move_from_its_end(
    here: Here, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(STOOD_BY)
    monkeypatch.setattr(_standby, "MODULE", "morpheus.nowhere")

    grow("oak", nodes=3, cloud="local")

    assert is_whole(here)
    assert "oak: what stood by had ended with code 1" in caplog.text


async def put(forest: Forest) -> None:
    """Make a stream of some messages."""
    async with connection([client_url(forest.nodes[0])]) as client:
        stream = client.jetstream(timeout=5)
        await stream.add_stream(StreamConfig("leaf", subjects=["leaf"]))
        for _ in range(HELD):
            await stream.publish("leaf", b"leaf")


async def held(node: Node) -> int:
    """How many messages there are in it, asked of one node."""
    async with connection([client_url(node)]) as client:
        return (await insist(lambda: client.jetstream(timeout=5).stream_info("leaf"))).state.messages


@pytest.mark.parametrize("step", ["flows._migration:finish", "flows._migration:serve@5", f"{EXCHANGE}!"])
def test_where_the_old_machine_is_lost_after_all_has_moved_it_is_replaced(step: str, here: Here) -> None:
    asyncio.run(put(here.oak))
    kill_both_at(step, here, Phase.COMMITTED)
    folder = here.folder("oak-node-1")
    for each in (folder / "beside", folder):
        processes.stop(each, NATS)
    shutil.rmtree(folder)
    down = [node for node in here.oak.nodes[1:] if processes.find(here.folder(node.name), NATS) is None]

    with contextlib.ExitStack() as others:
        for node in down:  # other programs take the ports of what is down
            others.enter_context(socket.create_server((LOOPBACK, node.ports.client)))
        run_again()

    assert len(down) == int("serve" in step)

    oak = here.oak
    assert (oak.status, oak.migration) == (Status.ACTIVE, None)
    assert [node.name for node in oak.nodes] == ["oak-node-2", "oak-node-3", "oak-node-4"]
    assert {len(stands) for stands in copies(oak).values()} == {3}
    assert [asyncio.run(held(node)) for node in oak.nodes] == [HELD] * 3


def test_a_machine_that_nobody_lists_is_not_lost(here: Here) -> None:
    """As where somebody changed its labels in the cloud."""
    asyncio.run(put(here.oak))
    kill_both_at("flows._migration:finish", here, Phase.COMMITTED)
    listed, aside = here.folder("oak-node-1") / "server.json", here.data / "aside"
    listed.rename(aside)

    run_again()

    aside.rename(listed)
    assert is_whole(here)
    assert [asyncio.run(held(node)) for node in here.oak.nodes] == [HELD] * 3
