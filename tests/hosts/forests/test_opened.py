"""A forest that lets clients in from outside: those who may, from where they may, and nobody else."""

import json
import ssl
from collections.abc import Iterator
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client

from morpheus.cli.temporary import Temporary
from morpheus.machine import NATS, WORKLOAD, places
from morpheus.nats.listeners import CLIENT
from tests.hosts.forests.conftest import settings
from tests.hosts.forests.stands import SOON, Stand, on, standing, talk
from tests.hosts.forests.test_reach import answering
from tests.lab import Lab
from tests.lab.namespaces import Namespace
from tests.nats.grove import wait_for

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def opened(lab: Lab, prefect: Temporary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """One node that was closed at first, and was opened by planting again; with a workload."""
    folder = tmp_path_factory.mktemp("opened")
    given = settings("debian-13", folder)
    with standing(lab, folder / "home", 3, 1, given) as stand:
        (host,) = stand.hosts
        assert answering(lab.outside, host.address, wait=0.3) == {22}
        on(host, keep)
        address = address_of(lab.laptop)
        stand.home.settle(**given, firewall={"nats": ["::/0"], "monitoring": [f"{address}/128"]})
        stand.plant()
        yield stand


def address_of(place: Namespace) -> str:
    told = json.loads(place.run(["ip", "-j", "-6", "addr", "show", "eth0", "scope", "global"]).stdout)
    return str(told[0]["addr_info"][0]["local"])


async def keep(client: Client) -> None:
    stream = client.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept"])
    await stream.publish("kept", b"before it was opened")


async def kept(client: Client) -> bytes | None:
    return (await client.jetstream().get_msg("KEPT", 1)).data


def trust(stand: Stand) -> ssl.SSLContext:
    """What trusts the forest's authority alone."""
    return ssl.create_default_context(cadata=stand.secrets.authority.certificate)


def url(stand: Stand) -> str:
    return f"nats://[{stand.hosts[0].address}]:4222"


def allowed(stand: Stand) -> dict[str, Any]:
    return {"tls": trust(stand), "user": CLIENT, "password": stand.secrets.client_password}


def test_a_client_with_authority_and_password_gets_in_from_outside(lab: Lab, opened: Stand) -> None:
    with lab.outside.entered():
        assert talk(url(opened), kept, **allowed(opened)) == b"before it was opened"


@pytest.mark.parametrize(
    "lacking", [{"user": None, "password": None}, {"password": "guessed"}, {"user": "root"}, {"user": None}]
)
def test_a_client_with_wrong_or_without_credentials_is_refused(
    lab: Lab, opened: Stand, lacking: dict[str, Any]
) -> None:
    with lab.outside.entered(), pytest.raises(nats.errors.Error, match=r"(?i)authorization violation"):
        talk(url(opened), kept, **(allowed(opened) | lacking))


def test_a_client_without_tls_is_refused_before_it_says_its_password(lab: Lab, opened: Stand) -> None:
    plain = b'CONNECT {"user": "app", "pass": "never", "verbose": true}\r\nPING\r\n'
    ask = ["curl", "-sS", "-m", "1", "--data-binary", "@-", f"telnet://[{opened.hosts[0].address}]:4222"]

    said = lab.outside.run(ask, text=plain.decode()).stdout

    assert '"tls_required":true' in said
    assert "PONG" not in said
    assert "+OK" not in said


def test_a_client_that_trusts_others_does_not_take_the_server_for_theirs(lab: Lab, opened: Stand) -> None:
    with lab.outside.entered(), pytest.raises(ssl.SSLCertVerificationError):
        talk(url(opened), kept, **(allowed(opened) | {"tls": ssl.create_default_context()}))


def test_monitoring_answers_the_one_address_that_may_ask(lab: Lab, opened: Stand) -> None:
    (host,) = opened.hosts

    assert answering(lab.laptop, host.address) == {22, 4222, 8222}
    assert answering(lab.outside, host.address) == {22, 4222}


def test_beside_the_server_a_password_is_needed_too(opened: Stand) -> None:
    (host,) = opened.hosts

    with pytest.raises(nats.errors.Error, match=r"(?i)authorization violation"):
        on(host, kept, tls=trust(opened))
    assert on(host, kept, **allowed(opened)) == b"before it was opened"


def test_the_workload_goes_on_with_what_it_needs_now(opened: Stand) -> None:
    (host,) = opened.hosts

    async def begun(client: Client) -> int:
        info = await client.jetstream().stream_info("WORK-oak-node-1")
        return info.state.messages

    assert wait_for(lambda: on(host, begun, **allowed(opened)), lambda seen: seen >= 2, SOON)
    state = host.run(["systemctl", "is-active", places.UNITS[NATS], places.UNITS[WORKLOAD]])
    assert state.stdout.split() == ["active", "active"]


def test_a_password_is_in_no_command_line_and_not_for_everybody(opened: Stand) -> None:
    (host,) = opened.hosts
    password = opened.secrets.client_password

    assert password not in host.run(["ps", "axww"]).stdout
    found = host.run(["grep", "-rlsF", password, "/etc", "/opt", "/var", "/run"]).stdout.split()
    assert found == [places.environment_file(WORKLOAD)]
    looked = host.run(["setpriv", "--reuid=nobody", "--clear-groups", "cat", *found])
    assert "Permission denied" in looked.stderr
