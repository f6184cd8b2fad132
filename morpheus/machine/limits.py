"""How much a node's JetStream may use, in bytes, decided once and recorded with the node.

NATS refuses percentages, takes what is free at every start when told nothing, and refuses every later
reload when a limit became lower (shared facts on NATS 2.15, sections E and H): so the limits are numbers,
computed when the node is made, and never again.
"""

from dataclasses import dataclass

from morpheus.settings import IntegrationSettings
from morpheus.sizes import size_bytes

MIB, GIB = 1024**2, 1024**3
DEFAULT_MEMORY, DEFAULT_FILE = 1 * GIB, 10 * GIB
LEAST_MEMORY, LEAST_FILE = 16 * MIB, 64 * MIB
MEMORY_SHARE, DISK_SHARE = 0.25, 0.75


@dataclass(frozen=True, slots=True)
class Limits:
    """JetStream's limits in bytes."""

    memory: int = DEFAULT_MEMORY
    file: int = DEFAULT_FILE

    def below(self, wanted: "Limits") -> bool:
        """Whether it is less than was *wanted*."""
        return self.memory < wanted.memory or self.file < wanted.file


def limits_for(ram: int, disk: int, nodes: int, wanted: Limits = Limits()) -> Limits:
    """The limits of each of *nodes* nodes that share *ram* and *disk* bytes: what is *wanted*, or what fits.

    All of them together get at most a quarter of the memory and three quarters of the free disk, whole
    mebibytes each; below 16 MiB and 64 MiB a limit would help nobody, so it goes no lower.
    """

    def share(of: int, part: float, most: int, least: int) -> int:
        return min(most, max(least, int(of * part / nodes) // MIB * MIB))

    return Limits(
        memory=share(ram, MEMORY_SHARE, wanted.memory, LEAST_MEMORY),
        file=share(disk, DISK_SHARE, wanted.file, LEAST_FILE),
    )


def wanted_limits(settings: IntegrationSettings) -> Limits:
    """What the operator wants of every node."""
    return Limits(size_bytes(settings.jetstream_memory), size_bytes(settings.jetstream_file))
