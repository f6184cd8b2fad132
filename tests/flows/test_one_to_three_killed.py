"""A command that lets a forest of one grow is killed: nothing is lost, and no forest stays closed.

What stands by goes on at once. Where that is killed, too, programs write again by themselves until the old
server is stopped; from then on somebody has to finish: the same command, or the next check of a schedule.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nats.js.api import StreamConfig
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

from flows import _standby
from flows._standby import MODULE, STOOD_BY, log_of
from flows.grow import grow
from flows.grow_check import grow_check
from flows.plant import plant
from flows.teardown import teardown
from morpheus.errors import MorpheusError
from morpheus.forest import Forest, Node, Status
from morpheus.machine import NATS, processes
from morpheus.migration import Phase, is_moving
from morpheus.nats.config import client_url
from tests.flows.homes import UNMOVED
from tests.flows.killed import SHORT
from tests.flows.test_one_to_three import Here, is_whole
from tests.flows.traffic import connection, copies, insist, traffic
from tests.nats.grove import wait_for
from tests.servers import free_port
from tests.servers.webdav import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

MORPHEUS = str(Path(sys.executable).with_name("morpheus"))
MARGIN = 20.0  # seconds for a server to start, and for programs to come back, on a busy computer
PATIENCE = 120.0  # seconds for a command
LOOPBACK = "127.0.0.1"
HELD = 100  # messages
GOES_ON = 90.0  # seconds for what stands by
CLOSE = "morpheus.machine.beside.local:LocalFence.close"
OPEN: dict[str, Phase] = {  # where it is killed, and the phase that is recorded then
    "flows._migration:raise_beside": Phase.PREPARED,
    "flows._migration:serve@2": Phase.PREPARED,
    "flows._migration:wait_ready": Phase.PREPARED,
    "flows._migration:note@1": Phase.PREPARED,
    "morpheus.machine.beside.local:LocalFence.arm": Phase.FENCED,
    "morpheus.machine.beside.local:_await_reload": Phase.FENCED,
    "flows._migration:bring_over": Phase.FENCED,
    "flows._migration:restore@2": Phase.FENCED,
    "flows._migration:check_restored": Phase.FENCED,
    "flows._migration:note@2": Phase.FENCED,
    CLOSE: Phase.RESTORED,
    f"{CLOSE},morpheus.machine.local:LocalMachine.stop!": Phase.RESTORED,
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MORPHEUS_CONFIG", str(tmp_path / "morpheus.yaml"))
    (tmp_path / "morpheus.yaml").write_text(json.dumps({"growth": {**UNMOVED, "enabled": False}}))
    plant("oak", nodes=1, cloud="local")
    yield Here(tmp_path)
    with contextlib.suppress(MorpheusError):
        teardown("oak", cloud="local")


def ended(*command: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """The *command*, run to its end on the Prefect server of these tests."""
    server = {
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PREFECT_API_AUTH_STRING": str(PREFECT_API_AUTH_STRING.value()),
    }
    return subprocess.run(
        command,
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != STOOD_BY} | server | more,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def kill_both_at(step: str, here: Here, phase: Phase) -> None:
    """Have a command let oak grow, and killed there with what stands by."""
    kill_at(step, "both")
    assert here.oak.migration
    assert here.oak.migration.phase == phase


def kill_at(step: str, who: str) -> None:
    words = "grow", "oak", "--nodes", "3", "--yes"
    done = ended(sys.executable, "-m", "tests.flows.killed", step, who, *words)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def run_again() -> None:
    done = ended(MORPHEUS, "grow", "oak", "--yes")
    assert done.returncode == 0, done.stderr


def check() -> None:
    """As a schedule does; that nobody is to grow forests unasked does not keep it from finishing."""
    assert grow_check("oak") == {"oak": "grew"}


EXCHANGE = "morpheus.machine.beside.local:LocalBeside.exchange"
CLOSED: dict[str, tuple[Phase, Callable[[], None]]] = {  # and who goes on
    "flows._migration:note@3": (Phase.RESTORED, check),
    "flows._migration:finish": (Phase.COMMITTED, run_again),
    "flows._migration:serve@5": (Phase.COMMITTED, check),
    EXCHANGE: (Phase.COMMITTED, run_again),
    f"{EXCHANGE}!": (Phase.COMMITTED, check),
    "flows._migration:prove": (Phase.COMMITTED, run_again),
    "flows._migration:settled": (Phase.COMMITTED, check),
}


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


@pytest.mark.parametrize("step", OPEN)
def test_until_the_old_server_is_stopped_programs_write_again_by_themselves(step: str, here: Here) -> None:
    with traffic(here.oak, copies=1) as programs:
        kill_both_at(step, here, OPEN[step])
        before = programs.acknowledged
        wait_for(lambda: programs.acknowledged > before + 50, bool, timeout=SHORT + MARGIN)
        run_again()

    assert is_whole(here)


@pytest.mark.parametrize("step", CLOSED)
def test_from_then_on_the_next_command_or_check_finishes_it(step: str, here: Here) -> None:
    phase, go_on = CLOSED[step]
    with traffic(here.oak, copies=1):
        kill_both_at(step, here, phase)
        go_on()

    assert is_whole(here)


@pytest.mark.parametrize("step", ["flows._migration:wait_ready", "flows._migration:check_restored"])
def test_a_check_begins_anew_what_was_not_finished(step: str, here: Here) -> None:
    with traffic(here.oak, copies=1):
        kill_both_at(step, here, OPEN[step])
        seen = ended(MORPHEUS, "status", "oak")
        assert (seen.returncode, "To finish its move into a cluster" in seen.stdout) == (7, True)
        assert f"streams are on their way from oak-node-1 into a cluster ({OPEN[step]})" in seen.stderr
        check()

    assert is_whole(here)


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
