"""How programs reach a forest: a context for the nats command, and the environment that others need.

On this computer they go straight to the servers. So they do to machines elsewhere whose port 4222 is open;
where it is closed, tunnels lead there while the command runs.
"""

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from morpheus import site
from morpheus.cli.looking import nodes_meant
from morpheus.errors import (
    InvalidInputError,
    MachineError,
    MissingPartError,
    MorpheusError,
    TransientError,
)
from morpheus.files import make_folder, replace_file
from morpheus.nats.config import authority, client_url
from morpheus.nats.listeners import CLIENT
from morpheus.site import Found

if TYPE_CHECKING:
    from morpheus.cli.reaching import Reach
    from morpheus.machine.ssh import SshNode

AT_ONCE = 10
BY_US = ", by Morpheus"  # how the description of a context of ours ends


@dataclass(frozen=True)
class Connection:
    """How a forest is reached: the name and file of a context for the nats command, and the environment.

    ``tunnelled``: it leads through this process, and ends with it. ``away`` are nodes that give no answer,
    with the reasons. ``brought``: the servers are the workload's own, and so is who may enter them.
    """

    context: str
    file: Path
    environment: Mapping[str, str] = field(repr=False)
    tunnelled: bool = False
    away: Mapping[str, str] = field(default_factory=dict)
    brought: bool = False

    def wait(self) -> None:
        """Return at Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


@contextlib.contextmanager
def connected(found: Found, *, system: bool) -> Iterator[Connection]:
    """Write a context as the ``nats`` command reads it; one that leads through tunnels goes with the block.

    Raises:
        MissingPartError: its secrets are not on this computer, where it was planted on one.
        RefusedError: the registry's key is not here; says what to do.
        UnreachableError: tunnels are needed, and no machine gives an answer.
        InvalidInputError: the system account is asked for of servers that a workload brings.
    """
    if found.forest.provider == "local":
        yield _written(found, _on_this_computer(found, system=system), system=system)
        return
    if system and found.forest.is_embedded:
        raise InvalidInputError(
            f"The workload of {found.forest.name} brings its own NATS servers and owns their accounts, so "
            "nothing here opens a system account of theirs. Leave --system out for their addresses alone."
        )
    from morpheus.cli.reaching import reached  # noqa: PLC0415  # imports asyncssh

    with reached(found) as reach:
        if reach.settings.firewall.nats:
            brought = found.forest.is_embedded
            entrance = _beside(reach) if brought else _from_outside(reach, system=system)
            yield _written(found, entrance, system=system)
            return
        with _tunnels(reach) as (urls, away):
            seed = _system_seed(reach) if system else ""
            entrance = Entrance(urls, {"nkey": seed}, {"NATS_NKEY": seed}) if system else Entrance(urls)
            made = _written(found, entrance, system=system)
            try:
                yield replace(made, tunnelled=True, away=away)
            finally:
                _forget(made.file, urls)


@dataclass(frozen=True)
class Entrance:
    """The addresses, what else stands in the context, what else in the environment."""

    urls: Sequence[str]
    context: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


def _on_this_computer(found: Found, *, system: bool) -> Entrance:
    forest, folder = found.forest, site.access_folder()
    if folder.find(forest.name) is None:
        raise MissingPartError(
            f"The secrets of {forest.name} are not on this machine; connect where it was planted."
        )
    seed = str(folder.seed_file(forest.name, system=system))
    urls = [client_url(node) for node in forest.staying if node.ip]
    return Entrance(urls, {"nkey": seed}, {"NATS_NKEY": seed} if system else {})


def _beside(reach: "Reach") -> Entrance:
    """The addresses of servers that the workload brings; whether they want TLS, they tell who comes."""
    return Entrance([f"nats://{each}" for each in _addresses(reach)])


def _addresses(reach: "Reach") -> list[str]:
    """Where the servers of all nodes let clients in from outside."""
    from morpheus.cloud.over_ssh import address_from_here  # noqa: PLC0415  # imports asyncssh
    from morpheus.watch import server_of  # noqa: PLC0415

    nodes = nodes_meant(reach.forest)
    hosts = [(node.dns or address_from_here(server_of(node)), node.ports.client) for node in nodes]
    return [authority(host, port) for host, port in hosts]


def _from_outside(reach: "Reach", *, system: bool) -> Entrance:
    """TLS to every node, whose certificates the forest's authority signed."""
    secrets, urls = reach.secrets, [f"tls://{each}" for each in _addresses(reach)]
    trusted = str(site.access_folder().lay(reach.forest.name, "ca.crt", secrets.authority.certificate))
    known = {"user": CLIENT, "password": secrets.client_password}
    if system:
        known = {"nkey": _system_seed(reach)}
    known["ca"] = trusted
    return Entrance(urls, known, {f"NATS_{name.upper()}": value for name, value in known.items()})


def _system_seed(reach: "Reach") -> str:
    """The file that opens the system account."""
    seed = reach.secrets.access.system_seed
    return str(site.access_folder().lay(reach.forest.name, "system.nk", seed))


@contextlib.contextmanager
def _tunnels(reach: "Reach") -> Iterator[tuple[list[str], Mapping[str, str]]]:
    """The addresses of tunnels to all machines that answer, and why the others do not.

    No clients' TLS and no credentials there, and the servers tell of no others: they hear loopback alone.
    """
    machines, shut = reach.machines()
    with ExitStack() as stack, ThreadPoolExecutor(AT_ONCE) as pool:
        faults = list(pool.map(_entered, machines))
        away = {machine.name: fault for machine, fault in zip(machines, faults, strict=True) if fault}
        away |= {end.node: end.fault for end in shut if end.fault}
        if all(machine.name in away for machine in machines):
            raise min(away.values(), key=lambda fault: isinstance(fault, TransientError))
        ways = [
            stack.enter_context(machine.forward(reach.forest.node(machine.name).ports.client))
            for machine in machines
            if machine.name not in away
        ]
        urls = [f"nats://{authority(host, port)}" for host, port in ways]
        yield urls, {name: str(fault) for name, fault in away.items()}


def _entered(machine: "SshNode") -> MorpheusError | None:
    try:
        machine.connection.shown(machine.way)
    except MorpheusError as error:
        return error
    return None


def _written(found: Found, entrance: Entrance, *, system: bool) -> Connection:
    forest, urls = found.forest.name, ",".join(entrance.urls)
    name = f"{forest}-system" if system else forest
    brought, account = found.forest.is_embedded, "system" if system else "application"
    what = "the servers of its workload" if brought else f"{account} account"
    description = f"{forest}, {what}{BY_US}"
    context = {"description": description, "url": urls, **entrance.context}
    path = _context(name)
    make_folder(path.parent)
    try:
        replace_file(path, json.dumps(context, indent=2).encode())
    except OSError as error:
        raise MachineError(f"Cannot write {path}: {error.strerror or error}.") from error
    return Connection(name, path, {"NATS_URL": urls, **entrance.environment}, brought=brought)


def forget_contexts(forest: str) -> None:
    """Remove the contexts that were written for *forest*; those of others with its name stay."""
    for name in (forest, f"{forest}-system"):
        _forget(_context(name))


def _forget(path: Path, urls: Sequence[str] | None = None) -> None:
    """Remove a context of ours, if it leads to *urls* still."""
    with contextlib.suppress(OSError, ValueError, AttributeError, KeyError, TypeError):
        context = json.loads(path.read_text())
        if context["description"].endswith(BY_US) and urls in (None, context["url"].split(",")):
            path.unlink()


def _context(name: str) -> Path:
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "nats" / "context" / f"{name}.json"
