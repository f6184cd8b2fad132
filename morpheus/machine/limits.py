"""How much a node's JetStream may use, in bytes, decided once and recorded with the node.

NATS refuses percentages, takes what is free at every start when told nothing, and refuses every later
reload when a limit became lower (shared facts on NATS 2.15, sections E and H): so the limits are numbers,
computed when the node is made, and never again.
"""

from dataclasses import dataclass

MIB, GIB = 1024**2, 1024**3
DEFAULT_MEMORY, DEFAULT_FILE = 1 * GIB, 10 * GIB
LEAST_MEMORY, LEAST_FILE = 16 * MIB, 64 * MIB
MEMORY_SHARE, DISK_SHARE = 0.25, 0.75


@dataclass(frozen=True, slots=True)
class Limits:
    """JetStream's limits in bytes."""

    memory: int = DEFAULT_MEMORY
    file: int = DEFAULT_FILE

    @property
    def lowered(self) -> bool:
        return self.memory < DEFAULT_MEMORY or self.file < DEFAULT_FILE


def limits_for(ram: int, disk: int, nodes: int) -> Limits:
    """The limits of each of *nodes* nodes that share *ram* and *disk* bytes: the defaults, or what fits.

    All of them together get at most a quarter of the memory and three quarters of the free disk, whole
    mebibytes each; below 16 MiB and 64 MiB a limit would help nobody, so it goes no lower.
    """

    def share(of: int, part: float, default: int, least: int) -> int:
        return max(least, min(default, int(of * part / nodes) // MIB * MIB))

    return Limits(
        memory=share(ram, MEMORY_SHARE, DEFAULT_MEMORY, LEAST_MEMORY),
        file=share(disk, DISK_SHARE, DEFAULT_FILE, LEAST_FILE),
    )
