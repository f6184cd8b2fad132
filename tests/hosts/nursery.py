"""Machines as Morpheus bears them; what is delivered to them is put on their disks by hand."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from morpheus.forest import Forest, Node
from morpheus.machine import binaries, cloudinit, pki, places
from morpheus.machine.cloudinit import Birth
from morpheus.nats import access, config
from morpheus.nats.listeners import Openings
from tests.hosts.conftest import Boot
from tests.lab import Host
from tests.lab.commands import until
from tests.lab.visitors import Visitor
from tests.machine.births import BIRTHS

PASSWORD = "a-password-of-32-random-characters"
SMALL = {"jetstream_memory": str(2**26), "jetstream_file": str(2**28)}


def bear(boot: Boot, visitor: Visitor, birth: Birth, *, image: str = "debian-13") -> Host:
    """Boot a machine that lets the visitor in, and wait until its cloud-init has ended."""
    told = cloudinit.render(replace(birth, authorized_keys=(visitor.public,)))
    return visitor.born(boot(birth.node, image=image, user_data=told))


def node_of(kind: str, k: int) -> Birth:
    return replace(BIRTHS[kind], node=f"oak-node-{k}", ssh_port=22)


def put(host: Host, path: str, content: str | bytes, mode: int) -> None:
    file = Path(f"{host.disk.root}{path}")
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    file.chmod(mode)


def deliver(hosts: Sequence[Host], openings: Openings | None = None) -> Forest:
    """Bring everything that NATS needs to all nodes of a forest; nothing is started."""
    now = datetime.now(UTC)
    nodes = [Node(host.name, host.address, metadata=SMALL) for host in hosts]
    forest = Forest("oak", "hetzner").with_nodes(*nodes)
    authority, secrets = pki.found("oak", now), access.generate()
    server = binaries.nats_server(None, Path("/nowhere"), "").path
    for host, node in zip(hosts, nodes, strict=True):
        issued = authority.issue([host.address], now)
        shutil.copyfile(server, f"{host.disk.root}{places.NATS_SERVER}")
        Path(f"{host.disk.root}{places.NATS_SERVER}").chmod(0o755)
        put(host, places.AUTHORITY, authority.certificate, 0o644)
        put(host, places.KEY, issued.key, places.NATS_READS)
        put(host, places.CERTIFICATE, issued.certificate, places.NATS_READS)
        files = config.render_machine(forest, node, secrets, openings or Openings(), PASSWORD)
        for path, text in files.files(places.LAYOUT).items():
            put(host, path, text, places.NATS_READS)
    return forest


def start(host: Host, unit: str = "nats") -> None:
    """As the flow does: from now on a reboot brings it back."""
    done = host.run(["systemctl", "enable", "--now", unit])
    assert done.returncode == 0, done.stderr


def says(host: Host, *argv: str) -> str:
    done = host.run(argv)
    return (done.stdout or done.stderr).strip()


def is_healthy(host: Host) -> bool:
    """What NATS tells on the loopback of its machine."""
    asked = ["curl", "--silent", "--max-time", "2", "http://127.0.0.1:8222/healthz"]
    return '"status":"ok"' in host.run(asked).stdout


def wait_healthy(host: Host) -> None:
    until(f"{host.name} is healthy", lambda: is_healthy(host), timeout=40, interval=0.05)
