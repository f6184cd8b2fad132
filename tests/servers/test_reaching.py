"""ssh and logs, on machines behind OpenSSH's own server."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from morpheus.wait import wait_until
from tests.servers.sshd import make_host_key
from tests.servers.stand import BOUND, Stand, stand

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A forest that no test of this module changes."""
    folder = tmp_path_factory.mktemp("stand")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MORPHEUS_DATA_DIR", str(folder / "data"))
        with stand(folder) as made:
            for k, each in enumerate(made.machines.values(), start=1):
                said = [f"2026-11-01T09:0{j}:0{k}.000000+0000 oak nats: line {j} of {k}" for j in range(5)]
                (each.folder / "journal").write_text("\n".join(said) + "\n")
            yield made


@pytest.fixture
def wounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    """A forest of a test's own, whose second machine is switched off."""
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path / "data"))
    with stand(tmp_path) as made:
        made.machines["oak-node-2"].stop()
        yield made


@pytest.fixture
def forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    """A forest of a test's own, of whose second machine no host key is recorded."""
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path / "data"))
    with stand(tmp_path) as made:
        made.forget_key("oak-node-2")
        yield made


# Commands


@pytest.mark.parametrize("node", ["2", "node-2", "oak-node-2"])
def test_a_command_runs_on_one_node_as_if_it_were_here(whole: Stand, node: str) -> None:
    done = whole.run("ssh", "oak", node, "--", "echo $SSH_CONNECTION; printf 'a\\tb' ; echo no >&2; exit 3")

    assert done.code == 3
    assert whole.machines["oak-node-2"].address in done.out
    assert done.out.endswith("a\tb")
    assert done.err == "no\n"


def test_a_command_runs_on_all_nodes_and_each_line_tells_where(whole: Stand) -> None:
    done = whole.run("ssh", "oak", "--", "echo here")

    assert sorted(done.out.splitlines()) == [f"node-{k} | here" for k in (1, 2, 3)]


def test_the_highest_exit_code_counts(whole: Stand) -> None:
    last = "${address##*.}"

    done = whole.run("ssh", "oak", "--", f"set -- $SSH_CONNECTION; address=$3; exit {last}")

    assert done.code == 3


def test_options_and_dashes_behind_the_dashes_are_the_commands(whole: Stand) -> None:
    done = whole.run("ssh", "oak", "1", "-o", "json", "--", "echo", "--output", "--", "-x")

    told = {"name": "oak-node-1", "exit_code": 0, "stdout": "--output -- -x\n", "stderr": "", "fault": None}
    assert json.loads(done.out) == {"nodes": [told]}


def test_an_unreachable_node_is_told_and_the_others_answer(wounded: Stand) -> None:
    done = wounded.run("ssh", "oak", "--", "echo here")

    assert done.code == 7
    assert sorted(done.out.splitlines()) == ["node-1 | here", "node-3 | here"]
    assert "oak-node-2" in done.err
    assert "refuses SSH connections" in done.err


def test_another_host_key_than_the_recorded_one_is_refused(wounded: Stand) -> None:
    wounded.record("oak-node-3", host_key=make_host_key(wounded.folder / "another"))

    for words in (["--", "touch", str(wounded.folder / "entered")], []):
        done = wounded.run("ssh", "oak", "3", *words)

        assert done.code == 5
        assert "shows another host key" in done.err
    assert not (wounded.folder / "entered").exists()


def test_an_unknown_node_is_told_those_there_are(whole: Stand) -> None:
    done = whole.run("ssh", "oak", "node-9", "--", "true")

    assert done.code == 2
    assert "node-1, node-2, node-3" in done.err


def test_ctrl_c_ends_the_command_there(whole: Stand) -> None:
    left = whole.folder / "left"

    running = whole.start(
        "ssh", "oak", "--", f"trap 'echo $$ >> {left}; exit' TERM; echo begun; sleep 60 & wait"
    )
    running.until("node-1 | begun\n")
    running.until("node-2 | begun\n")
    running.until("node-3 | begun\n")
    done = running.ended(signal.SIGINT)

    assert done.code == 130
    assert "Interrupted. What ran on the machines was told to end." in done.err
    wait_until("three ends", left.exists, bool, str, timeout=BOUND)
    wait_until("three ends", left.read_text, lambda ends: len(ends.splitlines()) == 3, str, timeout=BOUND)


def test_machines_are_entered_on_the_port_that_they_were_born_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting is that of new ones."""
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path / "data"))
    with stand(tmp_path, nodes=1) as made:
        path = tmp_path / "morpheus.yaml"
        settings = yaml.safe_load(path.read_text())
        made.record("oak-node-1", ssh_port=str(settings["provisioning"]["ssh_port"]))
        path.write_text(yaml.safe_dump({**settings, "provisioning": {"ssh_port": 1}}))

        done = made.run("ssh", "oak", "--", "echo here")

    assert (done.code, done.out) == (0, "here\n"), done.err


def test_a_node_that_nobody_can_tell_from_others_keeps_nobody_from_them(forgotten: Stand) -> None:
    """A record of it was lost."""
    for name in ("oak-node-1", "oak-node-3"):
        (forgotten.machines[name].folder / "journal").write_text(f"2026-11-01T09:00:00.000000+0000 {name}\n")

    asked = forgotten.run("ssh", "oak", "--", "echo here")
    told = forgotten.run("logs", "oak")
    looked = forgotten.run("ssh", "oak", "2", "--", "echo here")

    assert sorted(asked.out.splitlines()) == ["node-1 | here", "node-3 | here"]
    assert [line.split(" | ")[0] for line in told.out.splitlines()] == ["node-1", "node-3"]
    assert looked.out == ""
    for done in (asked, told, looked):
        assert done.code == 7
        assert "No host key of oak-node-2 is recorded" in done.err


def test_nobody_logs_in_where_no_host_key_is_recorded(forgotten: Stand) -> None:
    done = forgotten.run("ssh", "oak", "2")

    assert done.code == 5
    assert "No host key of oak-node-2 is recorded" in done.err


# Logging in


def test_logging_in_leaves_no_key_behind(whole: Stand) -> None:
    """While one is in, the key is gone already; and the options of this user's own SSH count nothing."""
    (whole.folder / ".ssh").mkdir(exist_ok=True)
    (whole.folder / ".ssh" / "config").write_text("Host *\n  Port 1\n")

    done = whole.run(
        "ssh", "oak", "2", given=f"ls {whole.folder}/tmp/morpheus-ssh-*; exit 4\n", XDG_RUNTIME_DIR=""
    )

    assert done.code == 4, done.err
    assert done.out.split() == ["known_hosts"]
    assert list((whole.folder / "tmp").iterdir()) == []


def test_which_node_to_log_in_to_has_to_be_said(whole: Stand) -> None:
    done = whole.run("ssh", "oak")

    assert done.code == 2
    assert "morpheus ssh oak node-1 (or node-2, node-3)" in done.err


def test_without_ssh_it_is_said_what_to_install(whole: Stand) -> None:
    done = whole.run("ssh", "oak", "1", PATH=str(whole.folder))

    assert done.code == 8
    assert "apt install openssh-client" in done.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_whatever_ends_a_login_the_key_goes(whole: Stand, number: int) -> None:
    """The stand-in for ssh never logs in, so it is not ssh that removes the key."""
    programs = whole.folder / f"programs-{number}"
    programs.mkdir()
    (programs / "ssh").write_text("#!/bin/sh\necho started\nexec sleep 60\n")
    (programs / "ssh").chmod(0o755)

    running = whole.start("ssh", "oak", "1", PATH=f"{programs}:/usr/bin:/bin", XDG_RUNTIME_DIR="")
    running.until("started")
    (key,) = (whole.folder / "tmp").glob("morpheus-ssh-*/key")
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    done = running.ended(number)

    assert done.code in {130, 143}
    assert list((whole.folder / "tmp").iterdir()) == []


# Logs


def test_the_journals_of_all_nodes_stand_in_the_order_of_their_times(whole: Stand) -> None:
    done = whole.run("logs", "oak", "--lines", "2")

    assert done.code == 0
    words = [line.split(" | ") for line in done.out.splitlines()]
    assert [(node, text[-11:]) for node, text in words] == [
        (f"node-{k}", f"line {j} of {k}") for j in (3, 4) for k in (1, 2, 3)
    ]


def test_followed_journals_go_on_until_ctrl_c(whole: Stand) -> None:
    running = whole.start("logs", "oak", "2", "--follow", "--lines", "1", "--output", "json")
    running.until("line 4 of 2")
    with (whole.machines["oak-node-2"].folder / "journal").open("a") as journal:
        journal.write("2026-11-01T09:10:00.000000+0000 oak nats: something new\n")
    running.until("something new")
    done = running.ended(signal.SIGINT)

    assert done.code == 130
    told = [json.loads(line) for line in done.out.splitlines()]
    assert [each["node"] for each in told] == ["oak-node-2"] * 2


def test_a_node_without_an_answer_keeps_nobody_from_the_others_journals(wounded: Stand) -> None:
    for name in ("oak-node-1", "oak-node-3"):
        (wounded.machines[name].folder / "journal").write_text(f"2026-11-01T09:00:00.000000+0000 {name}\n")

    done = wounded.run("logs", "oak")

    assert done.code == 7
    assert [line.split(" | ")[0] for line in done.out.splitlines()] == ["node-1", "node-3"]
    assert "oak-node-2" in done.err


def test_a_followed_journal_goes_on_where_it_ended_when_the_machine_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path / "data"))
    with stand(tmp_path, nodes=1) as made:
        machine = made.machines["oak-node-1"]
        journal = machine.folder / "journal"

        def write(time: str, text: str) -> None:
            with journal.open("a") as file:
                file.write(f"2026-11-01T{time}+0000 oak nats: {text}\n")

        write("09:00:00.000000", "long ago")
        write("09:04:02.000000", "the last one")
        running = made.start("logs", "oak", "--follow", "--lines", "1")
        running.until("the last one")
        machine.stop()
        running.until("It goes on here when oak-node-1 is back.")
        write("09:04:02.000000", "at the same time")
        write("09:11:00.000000", "while it was away")
        machine.start()
        running.until("while it was away")
        write("09:12:00.000000", "since it is back")
        running.until("since it is back")
        done = running.ended(signal.SIGINT)

    assert done.code == 130
    words = [line.partition("nats: ")[2] for line in done.out.splitlines()]
    assert words == ["the last one", "at the same time", "while it was away", "since it is back"]
    assert done.err.count("It goes on here") == 1
