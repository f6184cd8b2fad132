"""Firewalls of the API act on hosts, and no root of a host reaches them."""

import socket
from collections.abc import Iterator

import hcloud
import pytest
from hcloud.firewalls import FirewallRule
from hcloud.firewalls.domain import FirewallResource
from hcloud.images import Image
from hcloud.server_types import ServerType

from tests.lab import Host, Lab
from tests.lab.visitors import Knock, Visitor, knock
from tests.simulator import Latency, Simulator
from tests.simulator.clients import IPV6_ONLY, client_of, settled

pytestmark = pytest.mark.root

LAPTOP = "2001:db8:0:1::/64"
ANYBODY = "::/0"
NOBODY_LISTENS = 9  # who is let through to this port is refused by the host itself


def tcp(port: str, source: str = ANYBODY) -> FirewallRule:
    return FirewallRule(direction="in", protocol="tcp", port=port, source_ips=[source])


@pytest.fixture(scope="module")
def project(lab: Lab) -> Iterator[hcloud.Client]:
    simulator = Simulator(latency=Latency(scale=0), hosts=lab)
    with lab.cleared(), simulator.running():
        client = client_of(simulator)
        yield client
        for each in (client._client, client._client_hetzner):
            each._session.close()
    assert simulator.violations == []


@pytest.fixture(scope="module")
def host(lab: Lab, project: hcloud.Client, visitor: Visitor) -> Host:
    """A host that lets the laptop come to port 22, and nobody else to anything."""
    firewall = project.firewalls.create("oak", rules=[tcp("22", LAPTOP)]).firewall
    key = project.ssh_keys.create("visitor", visitor.public)
    settled(
        project.servers.create(
            "oak-node-1",
            ServerType(name="cx23"),
            Image(name="debian-13"),
            firewalls=[firewall],
            ssh_keys=[key],
            public_net=IPV6_ONLY,
        )
    )
    return visitor.born(lab["oak-node-1"])


@pytest.fixture(autouse=True)
def as_ordered(project: hcloud.Client, host: Host) -> None:
    """Each test begins with the same rules."""
    allow(project, tcp("22", LAPTOP))


def allow(project: hcloud.Client, *rules: FirewallRule) -> None:
    firewall = project.firewalls.get_by_name("oak")
    assert firewall is not None
    for action in firewall.set_rules(list(rules)):
        action.wait_until_finished()


def test_who_is_not_let_in_hears_nothing(lab: Lab, host: Host) -> None:
    assert knock(host.address) is Knock.OPEN
    assert knock(host.address, NOBODY_LISTENS, timeout=0.3) is Knock.SILENT

    with lab.outside.entered():
        assert knock(host.address, timeout=0.3) is Knock.SILENT


def test_new_rules_act_at_once(lab: Lab, project: hcloud.Client, host: Host) -> None:
    allow(project, tcp("22"), tcp("8-10", LAPTOP))

    assert knock(host.address, NOBODY_LISTENS) is Knock.REFUSED
    with lab.outside.entered():
        assert knock(host.address) is Knock.OPEN
        assert knock(host.address, NOBODY_LISTENS, timeout=0.3) is Knock.SILENT


def test_what_is_connected_stays_connected(project: hcloud.Client, host: Host) -> None:
    with socket.create_connection((host.address, 22), timeout=2) as plug:
        banner = plug.recv(8)

        allow(project)

        assert knock(host.address, timeout=0.3) is Knock.SILENT
        plug.sendall(b"not ssh\r\n")
        assert banner == b"SSH-2.0-"
        assert plug.recv(1024)


def test_the_host_gets_answers_to_what_it_asks(lab: Lab, host: Host) -> None:
    with lab.outside.entered():
        listener = socket.create_server(("::", 8000), family=socket.AF_INET6)

    with listener, host.namespace.entered():
        assert knock("2001:db8:0:2::1", 8000) is Knock.OPEN


def test_a_rule_for_what_goes_out_closes_the_rest(lab: Lab, project: hcloud.Client, host: Host) -> None:
    with lab.outside.entered():
        listener = socket.create_server(("::", 8000), family=socket.AF_INET6)

    allow(project, tcp("22"), FirewallRule("out", "tcp", [], port="8001", destination_ips=[ANYBODY]))

    with listener, host.namespace.entered():
        assert knock("2001:db8:0:2::1", 8000, timeout=0.3) is Knock.SILENT
        assert knock("2001:db8:0:2::1", 8001) is Knock.REFUSED
    assert knock(host.address) is Knock.OPEN  # answers are no new connections


def test_root_on_the_host_cannot_open_it(lab: Lab, host: Host) -> None:
    host.run(["nft", "flush", "ruleset"])

    with lab.outside.entered():
        assert knock(host.address, timeout=0.3) is Knock.SILENT


def test_a_host_without_a_firewall_is_open_to_everybody(lab: Lab, project: hcloud.Client, host: Host) -> None:
    firewall, server = project.firewalls.get_by_name("oak"), project.servers.get_by_name("oak-node-1")
    assert firewall is not None
    resource = FirewallResource("server", server=server)
    for action in firewall.remove_from_resources([resource]):
        action.wait_until_finished()

    with lab.outside.entered():
        assert knock(host.address, NOBODY_LISTENS) is Knock.REFUSED

    for action in firewall.apply_to_resources([resource]):
        action.wait_until_finished()
    with lab.outside.entered():
        assert knock(host.address, NOBODY_LISTENS, timeout=0.3) is Knock.SILENT
