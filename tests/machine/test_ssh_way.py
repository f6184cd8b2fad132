"""Which keys a way knows, and how they are called."""

import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr

from morpheus.cloud import Server
from morpheus.cloud.over_ssh import SshWays
from morpheus.errors import InvalidInputError
from morpheus.machine.ssh import Connections, Way, fingerprint
from tests.machine.births import PRIVATE, PUBLIC
from tests.servers.sshd import new_key


def test_a_key_has_the_fingerprint_that_ssh_keygen_shows(tmp_path: Path) -> None:
    _, public = new_key()
    (tmp_path / "key.pub").write_text(public)

    shown = subprocess.run(["ssh-keygen", "-lf", str(tmp_path / "key.pub")], capture_output=True, check=True)

    assert fingerprint(public) in shown.stdout.decode()


def test_comments_of_keys_do_not_count() -> None:
    _, public = new_key()

    assert Way("::1", (f"{public} root@oak\n",)) == Way("::1", (public,))


@pytest.mark.parametrize(
    "key", ["", "ssh-ed25519", "ssh-rsa AAAA", "ssh-ed25519 AAAAB3NzaC1yc2E", "nonsense"]
)
def test_what_is_no_ed25519_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidInputError, match="no host key"):
        Way("::1", (key,))


def test_a_way_without_a_host_key_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"No host key of 192\.0\.2\.1"):
        Way("192.0.2.1", ())


@pytest.mark.parametrize(
    ("address", "place"), [("2001:db8::1", "[2001:db8::1]:22"), ("192.0.2.1", "192.0.2.1:22")]
)
def test_the_place_is_written_as_addresses_are(address: str, place: str) -> None:
    assert Way(address, (new_key()[1],)).place == place


@pytest.mark.parametrize(
    ("recorded", "port"), [({}, 22), ({"ssh_port": "2222"}, 2222), ({"ssh_port": "all"}, 22)]
)
def test_a_server_is_entered_on_the_port_that_is_recorded_of_it(recorded: dict[str, str], port: int) -> None:
    ways = SshWays(SecretStr(PRIVATE), port=22)

    machine = ways.machine(Server("oak-node-1", "::1", {}, {"host_key": PUBLIC, **recorded}))

    assert machine.way.port == port
    ways.close()


def test_a_key_that_cannot_be_read_is_not_told() -> None:
    with pytest.raises(InvalidInputError) as told:
        Connections(SecretStr("-----BEGIN OPENSSH PRIVATE KEY-----\nhush"))

    assert "hush" not in str(told.value)
    assert told.value.__cause__ is None
