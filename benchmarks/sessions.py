"""Machines that are entered by SSH: OpenSSH's own server for each, on loopback."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from morpheus.cloud import Server, forest_of
from morpheus.cloud.hetzner import HetznerCloud
from morpheus.cloud.over_ssh import SshWays
from morpheus.machine import store_marker
from morpheus.machine.ssh import SshNode
from morpheus.settings import FirewallSettings, HetznerSettings, MachineSettings
from tests.servers.sshd import Sshd, new_key, sshd

NOWHERE = "http://127.0.0.1:9"  # a project that nobody asks for anything


@dataclass(frozen=True)
class Way:
    """The servers by the names of their nodes, and the key that opens them all."""

    servers: Mapping[str, Sshd]
    key: SecretStr


class Sessions(SshWays):
    """Ways onto the machines; connections are kept while it lives."""

    def __init__(self, way: Way) -> None:
        super().__init__(way.key)
        self._servers = way.servers

    def machine(self, server: Server) -> SshNode:
        there = self._servers[server.name]
        return SshNode(server.name, self._connections, there.way, there.layout)


@contextlib.contextmanager
def machines(folder: Path, names: Sequence[str]) -> Iterator[Way]:
    """A machine for each of *names*, with a store that was used, while the block runs."""
    key, public = new_key()
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(sshd(folder / "machines" / name)) for name in names}
        for name, server in servers.items():
            (server.folder / "authorized_keys").write_text(public + "\n")
            marker = Path(server.layout.marker)
            marker.parent.mkdir(parents=True)
            marker.write_bytes(store_marker(forest_of(name), name, "now"))
            marker.with_name("anything").touch()
        yield Way(servers, key)


@contextlib.contextmanager
def entered(way: Way) -> Iterator[HetznerCloud]:
    """The cloud of the machines, not one of which is entered yet; all are left with the block."""
    opened = Sessions(way)
    project = HetznerSettings(token=SecretStr("none"), api_url=f"{NOWHERE}/v1", boxes_url=f"{NOWHERE}/v1")
    cloud = HetznerCloud(MachineSettings(hetzner=project), FirewallSettings(), enter=lambda _: opened)
    try:
        yield cloud.entered_with(way.key)
    finally:
        opened.close()
