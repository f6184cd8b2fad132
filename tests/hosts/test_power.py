"""Power, as root on the machine, the provider's API and lightning use it."""

import dataclasses
from collections.abc import Iterator

import pytest

from tests.hosts.conftest import Boot
from tests.lab import Host, Lab
from tests.lab.commands import until
from tests.lab.visitors import UP, Knock, Visitor, knock

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def host(lab: Lab, visitor: Visitor) -> Iterator[Host]:
    """A host that every test leaves as it was: on and well."""
    host = lab.host("oak-node-1", ssh_keys=[visitor.public])
    with lab.cleared():
        host.boot()
        yield visitor.born(host)
        host.delete()


def host_key(host: Host) -> str:
    return (host.disk.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text(encoding="ascii")


def test_a_reboot_keeps_disk_address_and_host_key(host: Host, visitor: Visitor) -> None:
    address, key = host.address, host_key(host)
    visitor.ssh(host, "echo kept > /root/kept")
    visitor.ssh(host, "touch /run/before")

    host.reboot()
    visitor.born(host)

    assert (host.address, host_key(host)) == (address, key)
    assert visitor.ssh(host, "cat /root/kept").stdout == "kept\n"
    assert visitor.ssh(host, "test -e /run/before").returncode == 1


def test_a_reboot_from_within(host: Host, visitor: Visitor) -> None:
    visitor.ssh(host, "touch /run/before")

    visitor.ssh(host, "systemctl reboot")

    until("it is down", lambda: visitor.ssh(host, "test -e /run/before", timeout=1).returncode == 255)
    visitor.born(host)
    assert visitor.ssh(host, "test -e /run/before").returncode == 1


def test_a_rebuilt_host_has_a_fresh_disk_another_host_key_and_the_same_address(
    host: Host, visitor: Visitor
) -> None:
    address, key = host.address, host_key(host)
    visitor.ssh(host, "echo lost > /root/lost")

    host.rebuild(dataclasses.replace(host.birth, image="debian-12"))
    visitor.born(host)

    assert visitor.ssh(host, "ls /root").stdout == ""
    assert 'VERSION_ID="12"' in visitor.ssh(host, "cat /etc/os-release").stdout
    assert host.address == address
    assert host_key(host) != key


def test_after_a_power_cut_nobody_hears_from_it_and_the_disk_stays(host: Host, visitor: Visitor) -> None:
    visitor.ssh(host, "echo kept > /root/kept; sync")

    host.power_cut()

    assert knock(host.address, timeout=0.3) is Knock.SILENT
    assert not host.is_on
    host.boot()
    visitor.born(host)
    assert visitor.ssh(host, "cat /root/kept").stdout == "kept\n"


def test_a_password_is_expired_where_no_key_was_given(boot: Boot, visitor: Visitor) -> None:
    host = boot(ssh_keys=(), root_password="Correct-horse-7")
    until("cloud-init is done", lambda: host.run(["cloud-init", "status"]).stdout.strip() == "status: done")

    tried = visitor.ssh_with_password(host, "Correct-horse-7")

    assert visitor.ssh(host, "true").returncode == 255
    assert "password" in tried.stderr.lower()
    assert "expired" in tried.stderr or "required to change" in tried.stderr
    assert tried.returncode == 1


def test_a_full_disk_takes_nothing_until_it_is_freed(host: Host, visitor: Visitor) -> None:
    host.fill_disk()

    assert "No space left on device" in visitor.ssh(host, "echo more > /root/more").stderr
    host.free_disk()
    assert visitor.ssh(host, "echo more > /root/more").returncode == 0


def test_an_unplugged_host_is_silent_until_it_is_plugged_in(host: Host, visitor: Visitor) -> None:
    host.unplug()

    assert knock(host.address, timeout=0.3) is Knock.SILENT
    assert (
        host.run(["curl", "-sS", "-m", "0.3", "http://169.254.169.254/hetzner/v1/metadata"]).returncode == 28
    )
    host.plug()
    until("it answers", lambda: knock(host.address, timeout=0.3) is Knock.OPEN, timeout=UP)
