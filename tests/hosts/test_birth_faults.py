"""What goes wrong at the birth of a machine, as those meet it who wait for it."""

import json
import socket

import pytest

from tests.hosts.conftest import Boot
from tests.lab import Lab
from tests.lab.commands import until
from tests.lab.visitors import UP, Knock, Visitor, knock

pytestmark = pytest.mark.root


def test_sshd_comes_late(lab: Lab, boot: Boot, visitor: Visitor) -> None:
    lab.faults.sshd_late("oak-*", 1)

    host = boot()

    until("the system is up", lambda: host.run(["test", "-e", "/var/lib/late"]).returncode == 0, timeout=UP)
    assert knock(host.address) is Knock.REFUSED
    visitor.born(host)


def test_the_port_is_open_before_sshd_speaks(lab: Lab, boot: Boot, visitor: Visitor) -> None:
    lab.faults.banner_late("oak-*", 5)

    host = boot()

    until("its port is open and silent", lambda: is_mute(host.address), timeout=UP)
    visitor.born(host)


def is_mute(address: str) -> bool:
    """Whether port 22 accepts a connection, and then nobody speaks."""
    try:
        plug = socket.create_connection((address, 22), timeout=0.3)
    except OSError:
        return False
    with plug:
        try:
            plug.recv(1)
        except TimeoutError:
            return True
        except OSError:
            return False
    return False


def test_keys_come_late(lab: Lab, boot: Boot, visitor: Visitor) -> None:
    lab.faults.keys_late("oak-*", 2)

    host = boot()

    until("sshd answers", lambda: knock(host.address) is Knock.OPEN, timeout=UP)
    assert "Permission denied" in visitor.ssh(host, "true").stderr
    visitor.born(host)


@pytest.mark.parametrize("image", ["debian-12", "debian-13"])
def test_cloud_init_fails_although_ssh_works(lab: Lab, boot: Boot, visitor: Visitor, image: str) -> None:
    lab.faults.cloud_init_error("oak-*")

    host = visitor.born(boot(image=image))

    status = json.loads(visitor.ssh(host, "cloud-init status --format json").stdout)
    assert status["status"] == "error"
    assert "the lab has broken this birth" in visitor.ssh(host, "cat /var/log/cloud-init-output.log").stdout


def test_other_hosts_are_born_well(lab: Lab, boot: Boot, visitor: Visitor) -> None:
    lab.faults.cloud_init_error("elm-*")

    host = visitor.born(boot())

    assert visitor.ssh(host, "cloud-init status").stdout.strip() == "status: done"
