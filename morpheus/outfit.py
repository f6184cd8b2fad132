"""What the nodes of a forest are given, before they are born and afterwards; nothing is done here.

Nodes on this computer get a configuration and run the programs that are here. Machines elsewhere get
all of it: what they are told at birth, the programs, the certificates, the configuration.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from morpheus.cloud import Server
from morpheus.errors import MissingPartError
from morpheus.forest import Forest, Node
from morpheus.machine import WORKLOAD, Layout, Program, places
from morpheus.machine.binaries import Binary
from morpheus.machine.cloudinit import Birth, Resources, render
from morpheus.machine.limits import GIB, MIB, limits_for, wanted_limits
from morpheus.machine.pki import Authority, fits
from morpheus.nats import config
from morpheus.nats.access import Access
from morpheus.nats.config import Guard
from morpheus.nats.listeners import Openings, workload_environment
from morpheus.secrets import ForestSecrets
from morpheus.settings import Settings

log = logging.getLogger("morpheus.outfit")

PROGRAM, SECRET, PUBLIC = 0o755, 0o600, 0o644
SUM = "WORKLOAD_SHA256"  # in the workload's environment

Read = Callable[[str], bytes | None]
"""What a machine has in a file; None where it has none."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to be on a machine; never shown by repr, for it may be a secret."""

    path: str
    content: bytes = field(repr=False)
    mode: int = SECRET


class Outfit(Protocol):
    """What one forest's nodes are given."""

    @property
    def access(self) -> Access | None:
        """Who may enter its NATS servers; None where these are not ours."""

    @property
    def has_workload(self) -> bool:
        """Whether a program of the operator's runs beside NATS."""

    def programs(self, node: Node) -> tuple[File, ...]:
        """The programs that have to be brought to the machine of *node*."""

    def workload_files(self, node: Node) -> tuple[File, ...]:
        """Of these, the workload."""

    def files(
        self, forest: Forest, node: Node, layout: Layout, read: Read, guard: Guard | None = None
    ) -> tuple[File, ...]:
        """The configuration of *node*, in the order of delivery; *read* tells what its machine has.

        With a *guard* while its streams are moved.
        """

    def server(self, forest: Forest, node: Node, layout: Layout) -> Program:
        """The NATS server of *node*."""

    def workload(self, forest: Forest, node: Node) -> Program:
        """The workload of *node*."""


@dataclass(frozen=True, slots=True)
class LocalOutfit:
    """For nodes that are processes of this computer; the programs are paths here."""

    access: Access
    nats: Path
    work: Path | None

    @property
    def has_workload(self) -> bool:
        return self.work is not None

    def programs(self, node: Node) -> tuple[File, ...]:
        del node  # all of it is here
        return ()

    workload_files = programs

    def files(
        self, forest: Forest, node: Node, layout: Layout, read: Read, guard: Guard | None = None
    ) -> tuple[File, ...]:
        del read
        listen = node.ip or "127.0.0.1"
        rendered = config.render(forest, node, layout, self.access, listen=listen, guard=guard)
        return tuple(File(path, text.encode()) for path, text in rendered.files(layout).items())

    def server(self, forest: Forest, node: Node, layout: Layout) -> Program:
        standalone = config.is_standalone(forest)
        return config.server_program(str(self.nats), node, layout, standalone=standalone)

    def workload(self, forest: Forest, node: Node) -> Program:
        env = {"NATS_URL": f"nats://localhost:{node.ports.client}", "FOREST_ID": forest.name}
        return Program(WORKLOAD, (str(self.work),), env)


@dataclass(frozen=True)
class MachineOutfit:
    """For nodes on machines of their own.

    *found* tells which programs there are for a platform; *script* is the operator's own, for new machines.
    """

    secrets: ForestSecrets = field(repr=False)
    settings: Settings
    found: Callable[[str], tuple[Binary | None, Binary | None]]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    script: bytes | None = field(default=None, repr=False)

    @property
    def access(self) -> Access | None:
        return self.secrets.access

    @property
    def has_workload(self) -> bool:
        return self.settings.integration.nimsforest_install

    @property
    def _openings(self) -> Openings:
        return Openings.of(self.settings.firewall)

    def host_key(self, node: str) -> str:
        """The public half of the host key with which the machine of *node* is born."""
        return self.secrets.birth_key(node).public

    def user_data(self, forest: Forest, node: Node) -> str:
        """What the machine of *node* is told at birth."""
        key, wanted = self.secrets.birth_key(node.name), self.settings.integration
        return render(
            Birth(
                forest=forest.name,
                node=node.name,
                role=node.role,
                provider=forest.provider,
                location=forest.location,
                created_at=node.created_at or self.now(),
                host_key=key.private,
                host_key_public=key.public,
                authorized_keys=(self.secrets.ssh_public,),
                installs_nats=wanted.nats_install,
                installs_workload=wanted.nimsforest_install,
                resources=Resources.of(wanted),
                ssh_port=node.ssh_port or self.settings.provisioning.ssh_port,
            )
        )

    def measured(self, node: Node, server: Server) -> Server:
        """*server* with the limits of its JetStream, for the record of *node*; those that it has stay."""
        told = server.metadata
        if "jetstream_file" in node.metadata or "disk_gb" not in told:
            return server
        wanted = wanted_limits(self.settings.integration)
        ram, disk = (int(float(told[kind]) * GIB) for kind in ("memory_gb", "disk_gb"))
        limits = limits_for(ram, disk, 1, wanted)
        if limits.below(wanted):
            log.warning(
                "%s: JetStream gets %d MiB of memory and %d MiB of disk, less than configured: that is what "
                "fits on its machine",
                *(node.name, limits.memory // MIB, limits.file // MIB),
            )
        more = {"jetstream_memory": str(limits.memory), "jetstream_file": str(limits.file)}
        return replace(server, metadata={**told, **more})

    def programs(self, node: Node) -> tuple[File, ...]:
        nats, _ = self._found(node)
        server = (File(places.NATS_SERVER, content_of(nats), PROGRAM),) if nats else ()
        return (*server, *self.workload_files(node))

    def workload_files(self, node: Node) -> tuple[File, ...]:
        _, workload = self._found(node)
        return (File(places.WORKLOAD_BINARY, content_of(workload), PROGRAM),) if workload else ()

    def _found(self, node: Node) -> tuple[Binary | None, Binary | None]:
        return self.found(f"linux-{node.metadata.get('architecture', 'amd64')}")

    def files(
        self, forest: Forest, node: Node, layout: Layout, read: Read, guard: Guard | None = None
    ) -> tuple[File, ...]:
        access, password = self.secrets.access, self.secrets.client_password
        rendered = config.render_machine(
            forest, node, access, self._openings, password, layout=layout, guard=guard
        )
        texts: Mapping[str, str] = rendered.files(layout)
        return (
            *self._certificates(node, read),
            *(File(path, text.encode(), places.NATS_READS) for path, text in texts.items()),
        )

    def server(self, forest: Forest, node: Node, layout: Layout) -> Program:
        standalone = config.is_standalone(forest)
        return config.server_program(places.NATS_SERVER, node, layout, standalone=standalone)

    def workload(self, forest: Forest, node: Node) -> Program:
        env = workload_environment(forest.name, self._openings, self.secrets.client_password)
        return Program(WORKLOAD, (places.WORKLOAD_BINARY,), {**env, **sums(self.workload_files(node))})

    def _certificates(self, node: Node, read: Read) -> tuple[File, ...]:
        """The forest's authority, and a certificate for *node* unless it has one that will do."""
        authority = Authority(self.secrets.authority.certificate, self.secrets.authority.key)
        names = [name for name in (node.ip, node.metadata.get("ipv4"), node.dns) if name]
        held, now = read(places.CERTIFICATE), self.now()
        trusted = File(places.AUTHORITY, authority.certificate.encode(), PUBLIC)
        if fits(held, authority, names, now):
            return (trusted,)
        issued = authority.issue(names, now)
        return (
            trusted,
            File(places.KEY, issued.key.encode(), places.NATS_READS),
            File(places.CERTIFICATE, issued.certificate.encode(), places.NATS_READS),
        )


def sums(programs: tuple[File, ...]) -> Mapping[str, str]:
    """What a process is told of its own program, so that one that runs an earlier one can be told by it."""
    digest = hashlib.sha256(b"".join(program.content for program in programs))
    return {SUM: digest.hexdigest()}


def content_of(binary: Binary) -> bytes:
    """The bytes of a program."""
    try:
        return binary.path.read_bytes()
    except OSError as error:
        raise MissingPartError(f"Cannot read {binary.path}: {error.strerror or error}.") from error
