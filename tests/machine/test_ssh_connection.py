"""One connection per node: shared by threads, opened again when it was lost, closed with all it holds."""

import contextlib
import contextvars
import gc
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from morpheus.errors import AbandonedError, MachineError, UnreachableError
from morpheus.machine.ssh import Connections, SshMachine
from morpheus.machine.ssh import connection as connection_module
from morpheus.wait import end_waits, let_wait
from tests.machine.conftest import wait_for
from tests.servers.sshd import Sshd
from tests.servers.wire import Wire

pytestmark = pytest.mark.servers


def test_many_threads_share_one_connection(server: Sshd, connections: Connections, wire: Wire) -> None:
    machine = server.machine(connections, port=wire.port)

    with ThreadPoolExecutor(30) as pool:
        said = list(pool.map(lambda k: machine.run("echo", str(k)), range(30)))

    assert said == [f"{k}\n" for k in range(30)]
    assert wire.accepted == 1


def test_two_machines_of_one_node_share_the_connection(
    server: Sshd, connections: Connections, wire: Wire
) -> None:
    for _ in range(3):
        server.machine(connections, port=wire.port).run("true")

    assert wire.accepted == 1


def test_a_connection_that_was_cut_is_opened_again(
    server: Sshd, connections: Connections, wire: Wire
) -> None:
    machine = server.machine(connections, port=wire.port)
    machine.run("true")

    wire.cut()

    assert machine.run("echo", "again") == "again\n"
    assert wire.accepted == 2


def test_a_machine_that_was_switched_off_and_on_is_entered_again(server: Sshd, entered: SshMachine) -> None:
    entered.run("true")
    server.stop()
    with pytest.raises(UnreachableError, match="refuses SSH connections"):
        entered.run("true")

    server.start()

    assert entered.run("echo", "again") == "again\n"


def test_a_command_that_was_under_way_is_not_run_twice(
    server: Sshd, connections: Connections, wire: Wire, tmp_path: Path
) -> None:
    machine = server.machine(connections, port=wire.port)
    runs = tmp_path / "runs"

    with ThreadPoolExecutor() as pool:
        script = f"echo run >> {runs}; exec sleep 30"
        running = pool.submit(machine.run, "/bin/sh", "-c", script)
        wait_for(runs.exists)
        wire.cut()
        with pytest.raises(UnreachableError, match="may have happened"):
            running.result(timeout=30)

    assert runs.read_text() == "run\n"


def test_what_may_be_done_twice_is_done_again(server: Sshd, connections: Connections, wire: Wire) -> None:
    machine = server.machine(connections, port=wire.port)
    content = os.urandom(3_000_000)
    machine.run("true")

    wire.left = 1_000_000
    machine.put(machine.layout.config, content)

    assert Path(machine.layout.config).read_bytes() == content
    assert wire.accepted == 2


def test_a_hung_command_is_bounded_and_ends_on_the_machine(server: Sshd, entered: SshMachine) -> None:
    began = time.monotonic()

    with pytest.raises(MachineError, match="sleep on oak-node-1 did not end within"):
        entered.run("sleep", "987.654", timeout=0.1)

    assert time.monotonic() - began < 5
    wait_for(lambda: not _running("987.654"))


def test_a_machine_that_fell_silent_is_not_awaited_for_ever_and_entered_anew(
    server: Sshd, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("morpheus.machine.ssh.machine.MARGIN", 0.1)
    monkeypatch.setattr("morpheus.machine.ssh.scripts.KILL_AFTER", 0.1)
    machine = server.machine(connections)
    machine.run("true")
    assert server.process
    halted = psutil.Process(server.process.pid).children(recursive=True)
    for each in halted:
        each.suspend()

    with pytest.raises(UnreachableError, match="fell silent"):
        machine.run("true", timeout=0.1)

    assert machine.run("echo", "again") == "again\n"
    for each in halted:
        each.resume()


def test_who_is_not_wanted_any_more_does_not_wait(entered: SshMachine) -> None:
    entered.run("true")
    context = contextvars.copy_context()
    context.run(let_wait)
    began = time.monotonic()

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(context.copy().run, entered.run, "sleep", "30")
        context.run(end_waits)
        with pytest.raises(AbandonedError):
            waiting.result(timeout=30)

    assert time.monotonic() - began < 5


def test_closing_ends_connections_threads_and_commands(server: Sshd, wire: Wire) -> None:
    before = _sockets()
    with Connections(server.key) as connections, ThreadPoolExecutor() as pool:
        machine = server.machine(connections, port=wire.port)
        machine.run("true")
        waiting = pool.submit(machine.run, "sleep", "30")
        wait_for(lambda: _running("sleep 30"))

        connections.close()

        with pytest.raises((AbandonedError, UnreachableError)):
            waiting.result(timeout=5)
    assert "morpheus-ssh" not in {each.name for each in threading.enumerate()}
    wait_for(lambda: server.sessions == 0)
    wait_for(lambda: _sockets() <= before)


def test_connections_that_nobody_holds_any_more_end(server: Sshd) -> None:
    connections = Connections(server.key)
    server.machine(connections).run("true")

    del connections
    gc.collect()

    wait_for(lambda: server.sessions == 0)
    wait_for(lambda: "morpheus-ssh" not in {each.name for each in threading.enumerate()})


def test_a_program_that_ends_leaves_no_warnings(server: Sshd) -> None:
    script = f"""
from pydantic import SecretStr
from morpheus.machine.ssh import Connections, SshMachine, Way
connections = Connections(SecretStr({server.key.get_secret_value()!r}))
machine = SshMachine("oak-node-1", connections, Way("127.0.0.1", ({server.host_key!r},), {server.port},
                     {server.user!r}))
tunnel = machine.forward(4222)
tunnel.__enter__()
print(machine.run("echo", "here"))
"""

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )

    assert (done.stdout.strip(), done.stderr) == ("here", "")
    wait_for(lambda: server.sessions == 0)


def test_a_place_that_is_not_free_yet_is_asked_for_again(server: Sshd, entered: SshMachine) -> None:
    with ThreadPoolExecutor(3 * connection_module.AT_ONCE) as pool:
        list(pool.map(lambda _: entered.run("true"), range(100)))

    assert server.sessions == 1


def _running(words: str) -> bool:
    return any(words in " ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"]))


def _sockets() -> int:
    """How many sockets this process holds."""
    held = 0
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that reads the folder
            held += str(each.readlink()).startswith("socket:")
    return held
