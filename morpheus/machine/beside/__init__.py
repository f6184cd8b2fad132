"""A second server on a machine, beside the one whose streams move to it, and a fence around that one.

The fence: a server reads a configuration in which everybody but who moves the streams may publish nothing,
which covers acknowledgements and the API as well; right afterwards the usual one is in its place again, so a
server that is started anew is open. A fence lifts itself on the machine when nobody renews it. The one move
of the file ``armed`` decides: to ``lifted`` by what watches it or by who gives up, or to ``closed`` by who
has stopped the server while it held. So a server that takes messages again is never believed to be closed.

Who was overtaken may act late: a call that waited for the network, or a process that was halted, would open
what its successor has closed. So whoever acts tells the turn in which it holds the forest, and nothing is
done for one that is lower than what was told before.

local.py: on this computer (watchman.py watches); over_ssh.py: on a machine of its own (fence.sh watches).
"""

from collections.abc import Mapping
from typing import Protocol

from morpheus.errors import OvertakenError
from morpheus.forest import Ports
from morpheus.machine import Machine, Program

LIFTS_AFTER = 60.0  # seconds after the last renewal
RELOAD_TIMEOUT = 10.0  # seconds until a server has read its configuration
ASIDE = 900  # between the ports of a server and those of the one beside it
CALM = 0.3  # seconds after which all that was let in before has come to its stream
READ, NOT_READ = "Reloaded server configuration", "Failed to reload server configuration"  # in its log


class Fence(Protocol):
    """What keeps programs from writing at the server of one machine."""

    def arm(self, guarded: bytes) -> None:
        """Return once nobody but who moves the streams can write; *guarded* is the configuration for that.

        Raises:
            MachineError: the server does not run, or does not read it; then it is as it was.
        """

    def renew(self) -> None:
        """Have the fence hold for its whole time from now on.

        Raises:
            OvertakenError: it does not hold any more.
        """

    def close(self) -> None:
        """Stop the server for good, while the fence holds: whatever it took stands in what was saved.

        Raises:
            OvertakenError: the fence did not hold till the end; the server may have taken messages since.
        """

    def lift(self) -> None:
        """Let programs in again, also where the server was stopped for good, or where there is no fence.

        Raises:
            OvertakenError: somebody with a later turn is at it.
        """


class Beside(Protocol):
    """The place of a second server on one machine. Every call may be made again."""

    @property
    def machine(self) -> Machine:
        """The machine as the second server has it: with files, a store, a log and a unit of its own."""

    @property
    def kept(self) -> str:
        """Where the store of the first server is kept once the second one's is in its place."""

    def prepare(self, marker: bytes, first: Ports) -> None:
        """Make the place: an empty store with its *marker*, and ports beside those of the *first* server."""

    def ports(self) -> Mapping[str, str]:
        """Where the second server listens, as a node's metadata tell it; nothing where there is none."""

    def free(self) -> int:
        """Return how many bytes are free where its store is."""

    def fence(self, server: Program, turn: int, lifts_after: float = LIFTS_AFTER) -> Fence:
        """Return the fence around the first *server*, which lifts itself after so many seconds."""

    def exchange(self) -> None:
        """Put the store into the place of the first server's, which is kept; no server runs meanwhile."""

    def exchanged(self) -> bool:
        """Return whether a store is kept."""

    def remove(self, turn: int) -> None:
        """Remove the place with the store in it, and what is left of a fence.

        Raises:
            OvertakenError: somebody with a later turn is at it.
        """

    def discard(self) -> None:
        """Remove the store that is kept."""


def lifted(machine: str) -> OvertakenError:
    """The fence around the server of *machine* does not hold any more."""
    return OvertakenError(
        f"The fence around {machine} was lifted before its streams were moved: nobody renewed it, or the "
        "server was started anew. Nothing is lost, they are where they were. Run this again."
    )
