"""The configuration of one NATS server, rendered from what is known of its forest."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from morpheus.errors import InvalidInputError, RefusedError
from morpheus.forest import Forest, Node, whole_number
from morpheus.machine import ACCOUNT, NATS, Layout, Program, places
from morpheus.machine.limits import Limits
from morpheus.nats import listeners
from morpheus.nats.access import Access
from morpheus.nats.listeners import Listeners, Openings

if TYPE_CHECKING:
    import jinja2


SYSTEM = "SYS"  # the system account
MAX_BYTES = 2**63 - 1  # that NATS can count


@dataclass(frozen=True, slots=True)
class Configuration:
    """The two files of a node: what is its own, and what changes with the forest.

    Both are for the server alone: cluster.conf holds the password of the routes, nats.conf a hash.
    """

    nats: str
    cluster: str

    def files(self, layout: Layout) -> Mapping[str, str]:
        """Path and content, in the order of delivery: a server starts only when it has a cluster.conf."""
        return {layout.config: self.nats, layout.cluster: self.cluster}


class Entry(StrEnum):
    """What the application's programs may do at a server while its streams are moved."""

    LISTEN = "listen"  # they stay, and take what they are given, but publish and acknowledge nothing
    NONE = "none"  # they are not let in


@dataclass(frozen=True, slots=True)
class Guard:
    """Who moves the streams, by the public key of an nkey, and what is left to everybody else."""

    key: str
    entry: Entry


def limits_of(node: Node) -> Limits:
    """The limits that were recorded when the node was made."""
    fixed = Limits()
    return Limits(
        memory=whole_number(node.metadata.get("jetstream_memory", ""), MAX_BYTES) or fixed.memory,
        file=whole_number(node.metadata.get("jetstream_file", ""), MAX_BYTES) or fixed.file,
    )


def authority(ip: str, port: int) -> str:
    """``ip:port`` as addresses write it: IPv6 in brackets."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def client_url(node: Node) -> str:
    return f"nats://{authority(node.ip or '127.0.0.1', node.ports.client)}"


def is_standalone(forest: Forest) -> bool:
    """One node makes no cluster."""
    return len(forest.staying) == 1


def routes(nodes: Sequence[Node], password: str) -> tuple[str, ...]:
    """One route to each node that has an address; the server finds itself among them and skips it."""
    return tuple(
        f"nats://route:{password}@{authority(node.ip, node.ports.cluster)}" for node in nodes if node.ip
    )


def render(  # noqa: PLR0913  # each one is a fact of the server
    forest: Forest, node: Node, layout: Layout, access: Access, *, listen: str, guard: Guard | None = None
) -> Configuration:
    """The configuration of *node*, a process of this machine, which listens on the address *listen*."""
    return compose(forest, node, layout, access, listeners.local(listen), guard)


def render_machine(  # noqa: PLR0913  # each one is a fact of the server
    forest: Forest,
    node: Node,
    access: Access,
    openings: Openings,
    password: str,
    *,
    layout: Layout = places.LAYOUT,
    guard: Guard | None = None,
) -> Configuration:
    """The configuration of *node* on a machine of its own.

    *password* is what clients and leaf nodes from outside need, where *openings* lets them in.

    Raises:
        InvalidInputError: the node has no address yet.
    """
    heard = listeners.of_machine(node, openings, password)
    return compose(forest, node, layout, access, heard, guard)


def compose(  # noqa: PLR0913, PLR0917  # each one is a fact of the server
    forest: Forest,
    node: Node,
    layout: Layout,
    access: Access,
    heard: Listeners,
    guard: Guard | None = None,
) -> Configuration:
    """The configuration of *node*, wherever its server listens; with a *guard* while its streams are moved.

    Raises:
        RefusedError: leaf nodes, which no permission keeps out, could write past the guard.
    """
    if guard and heard.leafnode:
        raise RefusedError(
            f"Leaf nodes may come to {node.name} (firewall.leafnode), and could write while its streams are "
            "moved: nothing was changed. Close that first, then open it again."
        )
    facts = {
        "forest": forest.name,
        "node": node.name,
        "listeners": heard,
        "client": listeners.CLIENT,
        "leafnode_port": places.LEAFNODE_PORT,
        "ports": node.ports,
        "store": layout.store,
        "log": layout.log,
        "limits": limits_of(node),
        "application": ACCOUNT,
        "system": SYSTEM,
        "standalone": is_standalone(forest),
        "app_key": access.app_key,
        "guard": guard,
        "system_key": access.system_key,
        "route_password": access.route_password,
        "routes": routes(forest.staying, access.route_password),
    }
    return Configuration(
        nats=_template("nats.conf.j2").render(facts),
        cluster=_template("cluster.conf.j2").render(facts),
    )


def quote(text: str) -> str:
    """*text* as a string of NATS's configuration language, which knows fewer escapes than JSON."""
    if not text.isprintable():
        raise InvalidInputError(f"{text!r} cannot stand in a configuration: it holds control characters.")
    return json.dumps(text, ensure_ascii=False)


@functools.cache
def _template(name: str) -> "jinja2.Template":
    import jinja2  # noqa: PLC0415  # reading commands never need it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("morpheus.nats", "."),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  # this is no HTML; quote() guards every string
        keep_trailing_newline=True,
    )
    environment.filters |= {"quote": quote, "authority": authority}
    return environment.get_template(name)


def server_program(binary: str, node: Node, layout: Layout, *, standalone: bool) -> Program:
    """The NATS server of *node* as a program of its machine."""
    ports = (node.ports.client, node.ports.monitor, *(() if standalone else (node.ports.cluster,)))
    return Program(NATS, (binary, "-c", layout.config), ports=ports)
