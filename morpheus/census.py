"""The servers of a cloud beside the records: which nodes have theirs, and which servers nobody recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from morpheus.cloud import Server
from morpheus.forest import Forest


@dataclass(frozen=True, slots=True)
class Presence:
    """What there is of a forest: its ``nodes`` as recorded, how many have a server, how many of those run.

    ``unrecorded`` are servers that bear its name and of which its record knows nothing.
    """

    nodes: int
    servers: int
    running: int
    unrecorded: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = f", {len(self.unrecorded)} unrecorded!" if self.unrecorded else ""
        return f"{self.running}/{self.nodes} running{more}"


@dataclass(frozen=True, slots=True)
class Census:
    """What a cloud has of ours: by the names of the recorded forests, and the servers without a record.

    ``fault`` says why nothing is known.
    """

    presences: Mapping[str, Presence]
    unrecorded: tuple[Server, ...] = ()
    fault: str = ""


def taken(forests: Sequence[Forest], servers: Sequence[Server]) -> Census:
    """*servers*, all of one registry, beside the *forests* that it records on their cloud."""
    known = {node.name for forest in forests for node in forest.nodes}
    unrecorded = tuple(server for server in servers if server.name not in known)
    return Census({forest.name: _presence(forest, servers, unrecorded) for forest in forests}, unrecorded)


def _presence(forest: Forest, servers: Sequence[Server], unrecorded: Sequence[Server]) -> Presence:
    names = {node.name for node in forest.nodes}
    there = [server for server in servers if server.name in names]
    running = sum(server.status == Server.RUNNING for server in there)
    strangers = tuple(each.name for each in unrecorded if each.labels.get("forest-id") == forest.name)
    return Presence(len(names), len(there), running, strangers)
