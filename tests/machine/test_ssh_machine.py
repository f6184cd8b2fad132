"""What SshMachine adds to the contract: files that survive a cut, owners, bounds, what systemd says."""

import os
import socket
import stat
import subprocess
from pathlib import Path

import psutil
import pytest

from morpheus.errors import MachineError, PortTakenError, UnreachableError
from morpheus.machine import NATS, WORKLOAD, Program, gauges
from morpheus.machine.ssh import Connections, SshMachine
from tests.growth.load import burning
from tests.machine.conftest import free_ports, wait_for
from tests.servers.sshd import BornMachine, Sshd
from tests.servers.wire import Wire

pytestmark = pytest.mark.servers

LARGE = os.urandom(3_000_000)


@pytest.fixture
def born(server: Sshd, connections: Connections) -> BornMachine:
    return BornMachine(server, connections)


@pytest.mark.parametrize(
    "content", [b"", b"small", b"\0\n\xff" * 100, LARGE], ids=["none", "one", "odd", "large"]
)
def test_every_content_arrives_as_it_is(entered: SshMachine, content: bytes) -> None:
    assert entered.put(entered.layout.config, content) is True

    assert Path(entered.layout.config).read_bytes() == content
    assert entered.read(entered.layout.config) == content
    assert entered.put(entered.layout.config, content) is False


def test_a_file_has_the_mode_it_was_put_with(entered: SshMachine) -> None:
    for content in (b"small", LARGE):
        path = Path(entered.layout.config)
        for mode in (0o600, 0o640, 0o755):
            assert entered.put(str(path), content, mode=mode) is True
            assert stat.S_IMODE(path.stat().st_mode) == mode


def test_large_content_that_is_there_is_not_sent_again(
    server: Sshd, connections: Connections, wire: Wire
) -> None:
    machine = server.machine(connections, port=wire.port)
    machine.put(machine.layout.config, LARGE)

    wire.left = len(LARGE) // 10
    assert machine.put(machine.layout.config, LARGE) is False
    assert machine.put(machine.layout.config, LARGE, mode=0o755) is True

    assert wire.accepted == 1


def test_paths_may_hold_what_shells_understand(entered: SshMachine) -> None:
    path = f'{entered.layout.store}/it\'s $HOME; `true` "two"/a b'

    entered.put(path, b"one")

    assert Path(path).read_bytes() == b"one"
    assert entered.read(path) == b"one"
    assert entered.run("echo", path, "*", "") == f"{path} * \n"


def test_a_put_that_is_cut_leaves_what_was_there(server: Sshd, connections: Connections, wire: Wire) -> None:
    machine = server.machine(connections, port=wire.port)
    file = Path(machine.layout.config)
    machine.put(str(file), b"before")

    wire.left = wire.every = len(LARGE) // 2  # it is tried once more, and cut then, too
    with pytest.raises(UnreachableError, match="was lost"):
        machine.put(str(file), LARGE)

    assert file.read_bytes() == b"before"
    wait_for(lambda: [each.name for each in file.parent.iterdir()] == [file.name])


def test_a_machine_tells_its_load_in_one_command(born: BornMachine) -> None:
    Path(born.layout.store).mkdir(parents=True, exist_ok=True)

    with burning():
        told = gauges.measure(born, 1)

    assert told.cpu > 60
    assert told.memory == pytest.approx(psutil.virtual_memory().percent, abs=5)
    assert told.disk == pytest.approx(psutil.disk_usage(born.layout.store).percent, abs=0.5)


def test_an_owner_that_is_not_there_is_an_error_and_nothing_is_written(entered: SshMachine) -> None:
    with pytest.raises(MachineError, match="nobody-knows-me"):
        entered.put(entered.layout.config, b"one", owner="nobody-knows-me")

    assert list(Path(entered.layout.config).parent.iterdir()) == []


def test_a_file_gets_the_group_it_is_put_with_and_keeps_it(entered: SshMachine) -> None:
    path, group = Path(entered.layout.config), _another_group()

    assert entered.put(str(path), b"one", owner=f":{group}") is True
    assert entered.put(str(path), b"one", owner=f":{group}") is False
    assert entered.put(str(path), b"two") is True

    assert path.stat().st_gid == group


def test_folders_on_the_way_are_like_the_one_above(entered: SshMachine) -> None:
    store = Path(entered.layout.store)
    store.mkdir(mode=0o750)
    os.chown(store, -1, group := _another_group())

    entered.put(entered.layout.marker, b"{}")

    for folder in Path(entered.layout.marker).parents:
        if folder.is_relative_to(store):
            assert (stat.S_IMODE(folder.stat().st_mode), folder.stat().st_gid) == (0o750, group)


def _another_group() -> int:
    """A group that we may give files to."""
    others = [each for each in os.getgroups() if each != os.getgid()]
    return 12_345 if os.geteuid() == 0 else (*others, os.getgid())[0]


def test_a_command_that_prints_too_much_is_ended(entered: SshMachine) -> None:
    with pytest.raises(MachineError, match="yes on oak-node-1 printed more than 32 MB"):
        entered.run("yes", "x" * 1000)

    assert entered.run("echo", "fine") == "fine\n"


def test_what_a_command_printed_comes_whole(entered: SshMachine) -> None:
    assert len(entered.run("head", "-c", "5000000", "/dev/zero")) == 5_000_000


def test_a_failed_command_tells_the_end_of_its_complaint(entered: SshMachine) -> None:
    script = "seq 100000 >&2; echo too bad >&2; exit 3"

    with pytest.raises(MachineError, match=r"(?s)/bin/sh on oak-node-1 ended with 3: .*too bad$") as told:
        entered.run("/bin/sh", "-c", script)

    assert len(str(told.value)) < 1000


def test_a_command_that_reads_gets_nothing(entered: SshMachine) -> None:
    assert entered.run("cat") == ""


def server_program(nats_server: str, machine: SshMachine, port: int) -> Program:
    argv = (nats_server, "-a", "127.0.0.1", "-p", str(port), "-l", machine.layout.log)
    return Program(NATS, argv, ports=(port,))


def test_a_started_server_listens(born: BornMachine, nats_server: str) -> None:
    port = free_ports().client

    born.start(server_program(nats_server, born, port))

    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        assert connection.recv(4) == b"INFO"
    assert born.pid(NATS)


def test_a_taken_port_is_told_from_other_faults(born: BornMachine, nats_server: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(PortTakenError, match="already in use"),
    ):
        born.start(server_program(nats_server, born, taken.getsockname()[1]))

    assert born.pid(NATS) is None


@pytest.mark.parametrize("script", ["echo no licence >&2; exit 3", "sleep 0.05; echo no licence"])
def test_a_program_that_ends_at_once_tells_its_last_words(born: BornMachine, script: str) -> None:
    with pytest.raises(MachineError, match=r"nimsforest\.service of oak-node-1 ended at once.*no licence"):
        born.start(Program(WORKLOAD, ("/bin/sh", "-c", script)))


def test_old_words_do_not_explain_a_new_fault(born: BornMachine) -> None:
    born.put(born.layout.log, b"bind: address already in use\n")

    with pytest.raises(MachineError, match="it said nothing"):
        born.start(Program(NATS, ("/bin/false",), ports=(free_ports().client,)))


def test_a_unit_that_is_not_there_is_called_by_its_name(entered: SshMachine) -> None:
    with pytest.raises(MachineError, match=r"Unit nats\.service not found"):
        entered.start(Program(NATS, ("/bin/true",)))


def test_the_environment_reaches_the_program_and_nobody_else(born: BornMachine, tmp_path: Path) -> None:
    values = {"SEED": 'a\'b "c" $HOME `id` \\ end', "PLAIN": "1"}
    out = tmp_path / "said"
    script = f'printf "%s|%s" "$SEED" "$PLAIN" > {out}; exec sleep 60'

    born.start(Program(WORKLOAD, ("/bin/sh", "-c", script), env=values))

    wait_for(lambda: out.exists() and out.read_text() == f"{values['SEED']}|1")
    file = Path(born.layout.config).parent / "nimsforest.env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_reloading_sends_the_signal_to_read_again(born: BornMachine, tmp_path: Path) -> None:
    out = tmp_path / "said"
    script = f"trap 'echo again >> {out}' HUP; echo ready > {out}; while :; do sleep 0.01; done"
    born.start(Program(WORKLOAD, ("/bin/sh", "-c", script)))
    wait_for(out.exists)

    born.reload(WORKLOAD)

    wait_for(lambda: "again" in out.read_text())


def test_a_unit_whose_condition_is_not_met_is_told(server: Sshd, born: BornMachine) -> None:
    (server.folder / "units" / "nats.service.unmet").touch()

    with pytest.raises(MachineError, match=r"nats\.service .*a Condition of its unit is not met"):
        born.start(Program(NATS, ("/bin/sleep", "60")))


def test_what_was_started_starts_with_the_machine_until_it_is_stopped(
    server: Sshd, born: BornMachine
) -> None:
    enabled = server.folder / "units" / "nimsforest.service.enabled"

    born.start(Program(WORKLOAD, ("/bin/sleep", "60")))
    assert enabled.exists()
    born.stop(WORKLOAD)
    assert not enabled.exists()
    with pytest.raises(MachineError):
        born.start(Program(WORKLOAD, ("/bin/false",)))
    assert not enabled.exists()


def test_no_secret_stands_in_a_command_line(server: Sshd, born: BornMachine, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    with subprocess.Popen(
        ["/bin/sh", "-c", f"while :; do cat /proc/[0-9]*/cmdline 2>/dev/null; done > {seen}"]
    ) as spy:
        born.put(born.layout.config, b"SUAVERYSECRETSEED")
        born.start(Program(WORKLOAD, ("/bin/sleep", "60"), env={"TOKEN": "SUAVERYSECRETSEED"}))
        spy.kill()

    assert b"/bin/sh" in seen.read_bytes()
    assert b"SUAVERYSECRETSEED" not in seen.read_bytes()
