"""Where a NATS server listens, and what it asks of those who come.

On this machine everything is on loopback. On a machine of its own a node's routes are on its address, under
mutual TLS; clients and monitoring are on its loopback, without credentials, until the operator lets somebody
in from outside: then clients need TLS and a password, wherever they come from.
"""

import base64
import functools
import hashlib
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from morpheus.errors import InvalidInputError
from morpheus.forest import Node
from morpheus.machine import places
from morpheus.settings import FirewallSettings

CLIENT = "app"  # the user of the application account that has a password
LOOPBACK, ANYWHERE = "127.0.0.1", "::"  # :: takes IPv4 as well
ROUNDS = 6  # of bcrypt: the password is 24 random bytes, and after a reboot all clients come at once


@dataclass(frozen=True, slots=True)
class Openings:
    """What may be reached from outside; SSH and the routes between nodes are no question."""

    nats: bool = False
    leafnode: bool = False
    monitoring: bool = False

    @classmethod
    def of(cls, firewall: FirewallSettings) -> "Openings":
        """What *firewall* lets somebody reach."""
        return cls(bool(firewall.nats), bool(firewall.leafnode), bool(firewall.monitoring))


@dataclass(frozen=True, slots=True)
class Tls:
    """The files that a server proves itself with, and the authority it asks routes for."""

    authority: str = places.AUTHORITY
    certificate: str = places.CERTIFICATE
    key: str = places.KEY


@dataclass(frozen=True, slots=True)
class Listeners:
    """The addresses of one server's listeners; the ports are the node's.

    ``tls`` secures the routes, and clients and leaf nodes where these are asked for ``password`` (a bcrypt
    hash). ``lets_in``: clients need no credentials.
    """

    client: str
    routes: str
    monitor: str
    leafnode: str | None = None
    tls: Tls | None = None
    password: str | None = None
    lets_in: bool = True


def local(address: str) -> Listeners:
    """Of a server that is a process of this machine."""
    return Listeners(client=address, routes=address, monitor=address)


def of_machine(node: Node, openings: Openings, password: str, tls: Tls | None = None) -> Listeners:
    """Of a server on a machine of its own, whose clients from outside know *password*.

    Raises:
        InvalidInputError: the node has no address yet.
    """
    if not node.ip:
        raise InvalidInputError(f"{node.name} has no address yet, so its server cannot be configured.")
    asks = openings.nats or openings.leafnode
    return Listeners(
        client=ANYWHERE if openings.nats else LOOPBACK,
        routes=node.ip,
        monitor=ANYWHERE if openings.monitoring else LOOPBACK,
        leafnode=ANYWHERE if openings.leafnode else None,
        tls=tls or Tls(),
        password=hashed(password, node.name) if asks else None,
        lets_in=not openings.nats,
    )


def workload_environment(forest: str, openings: Openings, password: str) -> Mapping[str, str]:
    """What the workload on a machine is told: its own node's server, and what that asks of it."""
    known = {"FOREST_ID": forest}
    if not openings.nats:
        return known | {"NATS_URL": "nats://localhost:4222"}
    secret = urllib.parse.quote(password, safe="")
    return known | {
        "NATS_URL": f"tls://{CLIENT}:{secret}@localhost:4222",
        "SSL_CERT_FILE": places.AUTHORITY,
    }


@functools.cache
def hashed(password: str, node: str) -> str:
    """*password* as bcrypt, the same whenever it is asked for: another hash would be a changed configuration.

    The salt, which bcrypt would draw at random, guards people's passwords against tables; this one is random
    itself, and was drawn for one forest.
    """
    import bcrypt  # noqa: PLC0415  # local forests never need it

    drawn = hashlib.sha256(f"{node} {password}".encode()).digest()[:16]
    alphabet = str.maketrans(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
    )
    salt = base64.b64encode(drawn).decode().rstrip("=").translate(alphabet)
    return bcrypt.hashpw(password.encode(), f"$2b${ROUNDS:02}${salt}".encode()).decode()
