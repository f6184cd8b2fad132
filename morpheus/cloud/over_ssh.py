"""The way onto servers elsewhere: SSH, with the forest's key, to machines that show recorded host keys."""

import socket

from pydantic import SecretStr

from morpheus.cloud import Server
from morpheus.errors import RefusedError
from morpheus.machine import StoreState, store_state
from morpheus.machine.beside.over_ssh import SshBeside
from morpheus.machine.ssh import Connections, SshNode, Way

_DISCARD = 9  # a port; connecting UDP sends nothing


class SshWays:
    """Ways onto the servers of one forest, whose *key* opens them; connections are kept while it lives.

    They lead to the port that each was born with, and to *port* where none is recorded.
    """

    def __init__(self, key: SecretStr, *, port: int = 22) -> None:
        self._connections, self._port = Connections(key), port

    def machine(self, server: Server) -> SshNode:
        """The machine of *server*, as its record tells how it is known.

        Raises:
            RefusedError: no host key of it is recorded.
        """
        keys = tuple(server.metadata[key] for key in ("host_key", "host_key_next") if key in server.metadata)
        if not keys:
            raise RefusedError(
                f"No host key of {server.name} is recorded, so nobody can tell it from another machine: it "
                "is not entered. If its record was lost, morpheus registry backups lists earlier ones."
            )
        way = Way(address_from_here(server), keys, server.ssh_port or self._port)
        return SshNode(server.name, self._connections, way)

    def beside(self, server: Server) -> SshBeside:
        return SshBeside(self.machine(server))

    def close(self) -> None:
        """End every connection, and whatever goes on in one."""
        self._connections.close()

    def store(self, server: Server) -> StoreState:
        machine = self.machine(server)
        return store_state(machine, was_started=machine.was_started())


def address_from_here(server: Server) -> str:
    """The address of *server* to which a route leads from here, IPv6 first."""
    other = server.metadata.get("ipv4")
    return other if other and not _has_route(server.ip) else server.ip


def _has_route(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, _DISCARD))
    except OSError:
        return False
    return True
