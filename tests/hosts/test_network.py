"""The network of a host is the provider's: what it has, what it lacks, and what it is told about itself."""

import urllib.request
from collections.abc import Iterator
from urllib.error import HTTPError

import pytest
import yaml

from tests.lab import Host, Lab
from tests.lab.visitors import Knock, Visitor, knock

pytestmark = pytest.mark.root

METADATA = "http://169.254.169.254/hetzner/v1"
KEYS = {
    "availability-zone",
    "hostname",
    "instance-id",
    "local-ipv4",
    "network-config",
    "network-sysconfig",
    "public-ipv4",
    "public-keys",
    "region",
    "vendor_data",
}


@pytest.fixture(scope="module")
def host(lab: Lab, visitor: Visitor) -> Iterator[Host]:
    """A host with IPv6 alone, which no test changes."""
    host = lab.host("oak-node-1", ssh_keys=[visitor.public], user_data="#cloud-config\n{}\n")
    with lab.cleared():
        host.boot()
        yield visitor.born(host)
        host.delete()


def test_no_way_leads_to_ipv4(host: Host) -> None:
    assert host.run(["ip", "-4", "route", "show", "default"]).stdout == ""

    with host.namespace.entered():
        assert knock("192.0.2.80") is Knock.UNREACHABLE


def test_names_have_no_ipv6_address(host: Host) -> None:
    found = host.run(["getent", "ahosts", "github.com"]).stdout.splitlines()

    tried = host.run(["curl", "-sS", "-m", "3", "https://github.com"])

    assert {line.split()[0] for line in found} == {"192.0.2.80"}
    assert tried.returncode == 7  # at once: nobody has to time out


def test_the_whole_network_is_routed_to_the_host_of_which_it_has_the_first_address(
    lab: Lab, host: Host
) -> None:
    another = host.address.removesuffix("::1") + "::beef"
    with lab.outside.entered():
        assert knock(another, timeout=0.3) is Knock.SILENT
        host.run(["ip", "addr", "add", f"{another}/128", "dev", "lo"])
        assert knock(another) is Knock.OPEN


def test_a_phone_with_ipv4_alone_does_not_reach_it(lab: Lab, host: Host) -> None:
    with lab.phone.entered():
        assert knock(host.address) is Knock.UNREACHABLE


def test_metadata_has_the_real_keys(host: Host) -> None:
    told = yaml.safe_load(host.run(["curl", "-fsS", f"{METADATA}/metadata"]).stdout)

    assert set(told) == KEYS
    assert told["hostname"] == "oak-node-1"
    assert told["network-config"]["config"][0]["subnets"][0]["address"] == f"{host.address}/64"


def test_metadata_has_leafs_and_the_user_data_which_everybody_may_read(host: Host) -> None:
    def got(path: str) -> str:
        ask = ["setpriv", "--reuid=nobody", "--clear-groups", "curl", "-fsS", f"{METADATA}/{path}"]
        return host.run(ask).stdout

    assert got("metadata/hostname") == "oak-node-1"
    assert got("metadata/instance-id") == str(host.birth.number)
    assert got("metadata/region") == "eu-central"
    assert got("metadata/private-networks") == "[]\n"
    assert got("userdata") == "#cloud-config\n{}\n"


def test_metadata_has_no_public_ipv6(host: Host) -> None:
    asked = host.run(["curl", "-sS", "-w", "%{http_code}", f"{METADATA}/metadata/public-ipv6"])

    assert asked.stdout == "not found404"


def test_metadata_is_for_hosts_alone(lab: Lab, host: Host) -> None:
    with lab.outside.entered(), pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(f"{METADATA}/metadata", timeout=2)

    with refused.value as answer:
        assert (answer.code, answer.read()) == (404, b"not found")
