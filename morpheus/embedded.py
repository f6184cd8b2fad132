"""Embedded mode: the workload brings its own NATS server, and Morpheus everything around it.

Peers find each other in the registry: each node has its forest's part of it as /mnt/forest/registry.json, and
only when all nodes stand in it, on every node, is the first workload started. Who may enter the servers, with
which certificates, is the workload's own affair, and so is what their cluster holds.
"""

import logging
from dataclasses import dataclass, replace

from morpheus.cloud import Server, forest_of
from morpheus.errors import InvalidInputError, MachineError, RefusedError
from morpheus.forest import BROUGHT, Forest, Node
from morpheus.machine import WORKLOAD, Layout, Machine, Program, places, share
from morpheus.machine.share import Share
from morpheus.nats.config import Guard
from morpheus.outfit import PROGRAM, PUBLIC, File, MachineOutfit, Outfit, Read, content_of, sums
from morpheus.registry.part import part_of
from morpheus.settings import IntegrationSettings
from morpheus.shelf import Shelf

log = logging.getLogger("morpheus.embedded")


def is_wanted(settings: IntegrationSettings) -> bool:
    """Whether new forests on machines of their own are to be of this mode.

    Raises:
        InvalidInputError: nothing is to be installed at all.
    """
    if not (settings.nats_install or settings.nimsforest_install):
        raise InvalidInputError(
            "integration.nats_install and integration.nimsforest_install are both false: set one of them to "
            "true, for otherwise nothing would run on the machines."
        )
    return not settings.nats_install


def check_mode(forest: Forest, *, embedded: bool) -> None:
    """Raise RefusedError when *forest* has nodes of the other mode: a machine is born for one of them."""
    placed = any(node.ip for node in forest.nodes)
    if not placed or forest.is_embedded == embedded:
        return
    brings = "brings its own NATS server" if forest.is_embedded else "uses the NATS server beside it"
    wanted = str(not forest.is_embedded).lower()
    raise RefusedError(
        f"The workload of {forest.name} {brings}, and that cannot be changed: nothing was done. Set "
        f"integration.nats_install to {wanted}, or plant a forest of another name."
    )


def check_heal(forest: Forest, gone: tuple[str, ...]) -> None:
    """Raise RefusedError when nodes of an embedded forest are *gone*: its cluster obeys its workload."""
    if gone and forest.is_embedded:
        raise RefusedError(
            f"{forest.name} lost the stores of {', '.join(gone)}. Its workload owns the cluster and the "
            "streams, so nobody else can tell what is lost, or remove the peers: nothing was changed. Put "
            f"the folders back from copies and plant again, or begin anew: morpheus teardown {forest.name}"
        )


@dataclass(frozen=True)
class EmbeddedOutfit(MachineOutfit):
    """For nodes whose workload brings its own NATS server.

    ``shelf`` is where we write what they may know, ``share`` the same as they read it; without them it is
    brought to each.
    """

    shelf: Shelf | None = None
    share: Share | None = None

    @property
    def access(self) -> None:
        """Nobody of ours enters its servers."""
        return

    has_workload = True

    def measured(self, node: Node, server: Server) -> Server:
        del node  # the limits of its JetStream are the workload's own
        return replace(server, metadata={**server.metadata, **BROUGHT})

    def programs(self, node: Node) -> tuple[File, ...]:
        return self.workload_files(node)

    def workload_files(self, node: Node) -> tuple[File, ...]:
        _, workload = self._found(node)
        return (File(places.EMBEDDED_BINARY, content_of(workload), PROGRAM),) if workload else ()

    def files(
        self, forest: Forest, node: Node, layout: Layout, read: Read, guard: Guard | None = None
    ) -> tuple[File, ...]:
        del node, layout, read, guard
        if self.share is None:
            return (File(places.KNOWN, part_of(forest).encode(), PUBLIC),)
        wanted = share.files(self.share).items()
        return tuple(File(path, text.encode(), mode) for path, (text, mode) in wanted)

    def server(self, forest: Forest, node: Node, layout: Layout) -> Program:
        del layout
        return self.workload(forest, node)

    def workload(self, forest: Forest, node: Node) -> Program:
        env = {"FOREST_ID": forest.name, "NATS_URL": "nats://localhost:4222"}
        return Program(WORKLOAD, (places.EMBEDDED_BINARY,), {**env, **sums(self.workload_files(node))})


def brought(outfit: Outfit, node: Node, machine: Machine, program: File) -> bool:
    """Bring *program* onto the machine of *node*; whether anything was different there.

    One that has IPv6 alone, and a home to read, fetches it there; SSH is the way of all others, and of one
    that cannot.
    """
    if isinstance(outfit, EmbeddedOutfit) and outfit.shelf and outfit.share and "ipv4" not in node.metadata:
        try:
            name = outfit.shelf.upload(forest_of(node.name), program.content)
            return share.fetch(machine, outfit.share, name, program.path, program.content)
        except MachineError as error:
            log.warning("%s cannot fetch its program, so it is brought by SSH: %s", node.name, error)
    return machine.put(program.path, program.content, mode=program.mode)
