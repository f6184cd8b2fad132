"""What the API does to servers happens to their hosts."""

import time

import hcloud
import pytest
from hcloud.images import Image
from hcloud.server_types import ServerType
from hcloud.servers import CreateServerResponse, ServerCreatePublicNetwork
from hcloud.ssh_keys import BoundSSHKey, SSHKey

from tests.lab import Lab
from tests.lab.commands import until
from tests.lab.visitors import UP, Knock, Visitor, knock
from tests.simulator import Simulator
from tests.simulator.clients import IPV6_ONLY, id_of, settled

pytestmark = pytest.mark.root


def ordered(
    client: hcloud.Client,
    name: str,
    visitor: Visitor | None = None,
    *,
    user_data: str = "",
    net: ServerCreatePublicNetwork = IPV6_ONLY,
) -> CreateServerResponse:
    """Order a server that lets a visitor in; without any it has a password."""
    keys: list[SSHKey | BoundSSHKey] = []
    if visitor:
        known = client.ssh_keys.get_by_name("visitor")
        keys.append(known or client.ssh_keys.create("visitor", visitor.public))
    kind, image = ServerType(name="cx23"), Image(name="debian-13")
    return settled(
        client.servers.create(name, kind, image, ssh_keys=keys, user_data=user_data, public_net=net)
    )


def test_a_server_is_a_host_which_the_api_switches_off_and_on(
    lab: Lab, simulator: Simulator, client: hcloud.Client, visitor: Visitor
) -> None:
    planted = "#cloud-config\nruncmd: [[touch, /root/planted]]\n"
    server = ordered(client, "oak-node-1", visitor, user_data=planted).server
    host = visitor.born(lab["oak-node-1"])
    assert f"{host.address}/64".replace("::1/", "::/") == simulator.servers[host.name].ipv6

    server.power_off().wait_until_finished()
    until("it is off", lambda: not host.is_on)
    server.power_on().wait_until_finished()
    visitor.born(host)
    assert visitor.ssh(host, "hostname; ls /root").stdout == "oak-node-1\nplanted\n"

    visitor.ssh(host, "systemctl poweroff")
    until("the API says so", lambda: client.servers.get_by_id(id_of(server)).status == "off", interval=0.05)


def test_hosts_boot_beside_each_other_while_the_api_answers_and_reach_each_other(
    lab: Lab, client: hcloud.Client, visitor: Visitor
) -> None:
    names = [f"oak-node-{number}" for number in (1, 2, 3)]
    for name in names:
        ordered(client, name, visitor)
    began = time.monotonic()
    client.servers.get_all()
    asked = time.monotonic() - began
    one, two, three = (visitor.born(lab[name]) for name in names)

    lab.partition(one.name, two.name)

    with one.namespace.entered():
        assert knock(two.address, timeout=0.3) is Knock.SILENT
        assert knock(three.address) is Knock.OPEN
    with two.namespace.entered():
        assert knock(one.address, timeout=0.3) is Knock.SILENT
    assert visitor.ssh(two, "true").returncode == 0
    lab.heal()
    with one.namespace.entered():
        assert knock(two.address) is Knock.OPEN
    assert asked < 0.5


def test_a_new_server_of_the_same_name_is_another_machine(
    lab: Lab, client: hcloud.Client, visitor: Visitor
) -> None:
    def host_key() -> str:
        return visitor.ssh(lab["oak-node-1"], "cat /etc/ssh/ssh_host_ed25519_key.pub").stdout

    server = ordered(client, "oak-node-1", visitor).server
    old = visitor.born(lab["oak-node-1"])
    address, key = old.address, host_key()

    server.delete().wait_until_finished()
    ordered(client, "oak-node-1", visitor)
    new = visitor.born(lab["oak-node-1"])

    assert new.address != address
    assert host_key() != key
    assert knock(address, timeout=0.3) is not Knock.OPEN
    assert not old.disk.folder.exists()


def test_a_phone_with_ipv4_alone_reaches_a_host_that_has_it(
    lab: Lab, simulator: Simulator, client: hcloud.Client, visitor: Visitor
) -> None:
    both = ServerCreatePublicNetwork(enable_ipv4=True, enable_ipv6=True)
    ordered(client, "oak-node-1", visitor, net=both)
    host = visitor.born(lab["oak-node-1"])
    ipv4 = simulator.servers[host.name].ipv4
    assert ipv4

    with lab.phone.entered():
        assert knock(ipv4) is Knock.OPEN
        assert knock(host.address) is Knock.UNREACHABLE
    told = host.run(["curl", "-fsS", "http://169.254.169.254/hetzner/v1/metadata/public-ipv4"]).stdout
    assert told == ipv4


def test_without_a_key_the_password_of_the_answer_is_the_hosts_and_expired(
    lab: Lab, client: hcloud.Client, visitor: Visitor
) -> None:
    created = ordered(client, "oak-node-1")
    host = lab["oak-node-1"]
    done = ["cloud-init", "status"]
    until("it is on", lambda: host.is_on)
    until("cloud-init is done", lambda: "done" in host.run(done).stdout, timeout=UP, interval=0.1)
    assert created.root_password

    tried = visitor.ssh_with_password(host, created.root_password)

    assert tried.returncode == 1
    assert "password" in tried.stderr.lower()
    assert "Permission denied" in visitor.ssh_with_password(host, "wrong").stderr
