"""What planting leaves for ever: host keys that nobody else read, and nothing to do for who plants again."""

import pytest

from morpheus.machine import NATS, WORKLOAD, places
from tests.hosts.forests.stands import Stand
from tests.lab import Host, Lab

pytestmark = pytest.mark.root

OURS = [
    "/etc/nimsforest",
    "/opt/nimsforest",
    "/etc/ssh",
    "/etc/systemd",
    "/etc/morpheus",
    places.LAYOUT.marker,
]
KEY = "/etc/ssh/morpheus_host_key"
UNITS = [places.UNITS[NATS], places.UNITS[WORKLOAD], "ssh.service"]


def own_key(stand: Stand, host: Host) -> str:
    """The host key that is recorded."""
    return stand.forest.node(host.name).metadata["host_key"]


def scanned(lab: Lab, host: Host) -> set[str]:
    """The host keys that somebody outside is shown, whichever kind they ask for."""
    shown = lab.outside.run(["ssh-keyscan", "-T", "5", host.address]).stdout.splitlines()
    return {" ".join(line.split()[1:]) for line in shown if not line.startswith("#")}


def test_a_machine_shows_the_one_key_that_it_made_itself(lab: Lab, either: Stand) -> None:
    for host in either.hosts:
        assert scanned(lab, host) == {own_key(either, host)}
        assert own_key(either, host) != either.secrets.birth_key(host.name).public


def test_only_that_key_is_recorded(either: Stand) -> None:
    for node in either.forest.staying:
        assert "host_key_next" not in node.metadata
        assert either.secrets.birth_key(node.name).public not in either.home.text


def test_the_birth_key_is_gone_from_sshd(either: Stand) -> None:
    for host in either.hosts:
        used = host.run(["sshd", "-T"]).stdout.splitlines()
        keys = host.run(["sh", "-c", "ls /etc/ssh/*key*"]).stdout.split()

        assert [line for line in used if line.startswith("hostkey ")] == [
            "hostkey /etc/ssh/morpheus_host_key"
        ]
        assert keys == [KEY]
        birth = either.secrets.birth_key(host.name).public.split()[1]
        assert host.run(["grep", "-rlF", birth, "/etc/ssh"]).stdout == ""


def test_planting_again_changes_nothing_on_any_machine(either: Stand) -> None:
    def seen() -> set[str]:
        find = ["find", *OURS, "-type", "f", "-printf", "%p %i %M %u %g %T@\\n"]
        show = ["systemctl", "show", *UNITS, "--property=MainPID,ActiveEnterTimestamp,NRestarts"]
        told = [(host, host.run(look).stdout) for host in either.hosts for look in (find, show)]
        return {f"{host.name}: {line}" for host, text in told for line in text.splitlines()}

    before, forest = seen(), either.forest

    planted = either.plant()

    assert seen() == before
    assert either.forest == forest == planted.forest
    for host in either.hosts:
        assert "Reloaded" not in host.run(["cat", places.LAYOUT.log]).stdout
