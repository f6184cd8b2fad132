"""Who reaches what on the machines of a forest: from outside, from node to node, as a server of others."""

import asyncio
import contextlib
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from morpheus.machine import pki, places
from morpheus.nats.config import authority
from tests.hosts.forests.stands import Stand, monitor
from tests.lab import Host, Lab
from tests.lab.namespaces import Namespace
from tests.lab.visitors import Knock, knock
from tests.nats.grove import wait_for

pytestmark = pytest.mark.root

PORTS = (21, 22, 23, 25, 53, 80, 111, 443, 3306, 4222, 5355, 5432, 6222, 6443, 7777, 8080, 8222, 9100)
CONFIG = """
server_name: stranger
listen: 127.0.0.1:14222
cluster {{
  name: oak
  listen: "{own}"
  tls {{ cert_file: "{folder}/crt", key_file: "{folder}/key", ca_file: "{folder}/ca", verify: true }}
  authorization {{ user: route, password: "{password}" }}
  routes: [ "nats://route:{password}@{other}" ]
}}
"""


def answering(place: Namespace, address: str, ports: Iterable[int] = PORTS, wait: float = 1) -> set[int]:
    """The *ports* of *address* that let somebody in who comes from *place*, all tried at once."""

    async def one(port: int) -> int | None:
        with contextlib.suppress(OSError, TimeoutError):
            _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), wait)
            writer.close()
            return port
        return None

    async def every() -> set[int]:
        return {port for port in await asyncio.gather(*map(one, ports)) if port}

    with place.entered():
        return asyncio.run(every())


def test_only_ssh_answers_from_outside(lab: Lab, either: Stand) -> None:
    for host in either.hosts:
        assert answering(lab.outside, host.address) == {22}

    with lab.outside.entered():
        assert knock(either.hosts[0].address, 4222, timeout=0.3) is Knock.SILENT


def test_nothing_else_listens_than_what_nodes_and_people_need(either: Stand) -> None:
    for host in either.hosts:
        lines = host.run(["ss", "-Hltn"]).stdout.splitlines()
        heard = {line.split()[3] for line in lines}

        public = {each for each in heard if not each.startswith(("127.0.0.", "[::1]"))}
        assert public == {"0.0.0.0:22", "[::]:22", authority(host.address, 6222)}
        assert {"127.0.0.1:4222", "127.0.0.1:8222"} <= heard


def test_nodes_reach_the_routes_of_each_other_and_no_more(either: Stand) -> None:
    one, other, _ = either.hosts

    assert answering(one.namespace, other.address) == {22, 6222}


@dataclass(frozen=True)
class Stranger:
    """A server on the machine of *host* that tries to join *other*; it knows the forest's authority."""

    host: Host
    other: Host
    folder: Path

    @contextlib.contextmanager
    def trying(self, trusted: str, issuer: pki.Authority, password: str) -> Iterator[None]:
        """Run it, with a certificate of *issuer*, while the block runs."""
        issued = issuer.issue([self.host.address], datetime.now(UTC))
        texts = {"crt": issued.certificate, "key": issued.key, "ca": trusted}
        own, there = authority(self.host.address, 16222), authority(self.other.address, 6222)
        texts["conf"] = CONFIG.format(own=own, other=there, folder=self.folder, password=password)
        for name, text in texts.items():
            (self.folder / name).write_text(text, encoding="ascii")
        binary = self.host.disk.root / "opt/nimsforest/bin/nats-server"
        with self.host.namespace.entered():
            process = subprocess.Popen([binary, "-c", self.folder / "conf", "-l", self.folder / "log"])
        try:
            yield
        finally:
            process.kill()
            process.wait()

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    @property
    def heard(self) -> str:
        """What the server says that it wants to join."""
        return self.other.run(["cat", places.LAYOUT.log]).stdout

    @property
    def has_joined(self) -> bool:
        return "stranger" in {route["remote_name"] for route in monitor(self.other, "/routez")["routes"]}


@pytest.fixture
def stranger(new: Stand, tmp_path: Path) -> Stranger:
    one, other, _ = new.hosts
    return Stranger(one, other, tmp_path)


@pytest.fixture
def ours(new: Stand) -> pki.Authority:
    pair = new.secrets.authority
    return pki.Authority(pair.certificate, pair.key)


def test_a_server_with_a_certificate_of_another_authority_does_not_join(
    new: Stand, stranger: Stranger, ours: pki.Authority
) -> None:
    """Although it stands on a node's own machine and knows the password."""
    foreign = pki.found("oak", datetime.now(UTC))
    refused = "certificate signed by unknown authority"

    with stranger.trying(ours.certificate, foreign, new.secrets.access.route_password):
        wait_for(lambda: stranger.heard.count(refused) >= 2, bool)
        assert not stranger.has_joined

    assert new.counted() == {host.name for host in new.hosts}


def test_a_server_without_the_password_does_not_join(stranger: Stranger, ours: pki.Authority) -> None:
    with stranger.trying(ours.certificate, ours, "guessed"):
        wait_for(lambda: "Authorization Violation" in stranger.log, bool)
        assert not stranger.has_joined


def test_a_server_with_everything_would_join(new: Stand, stranger: Stranger, ours: pki.Authority) -> None:
    """So it is the certificate and the password that keep the others out."""
    with stranger.trying(ours.certificate, ours, new.secrets.access.route_password):
        wait_for(lambda: stranger.has_joined, bool)

    wait_for(lambda: stranger.has_joined, lambda there: not there)


@pytest.mark.parametrize("image", ["debian-12", "debian-13"])
def test_ssh_answers_on_the_port_of_the_settings_alone(lab: Lab, stand: Stand, image: str) -> None:
    """And the machine is entered there whatever the setting is later."""
    stand.home.settle(hetzner={"image": image}, provisioning={"ssh_port": 2222})
    stand.plant(nodes=1)
    (host,) = stand.hosts

    assert answering(lab.outside, host.address, (*PORTS, 2222)) == {2222}
    lines = host.run(["ss", "-Hltn"]).stdout.splitlines()
    assert {"0.0.0.0:2222", "[::]:2222"} <= {line.split()[3] for line in lines}
    assert not [line for line in lines if line.split()[3].endswith(":22")]

    stand.home.settle(hetzner={"image": image})
    assert stand.status.formation.formed
    stand.plant()
    assert answering(lab.outside, host.address, (22, 2222)) == {2222}
