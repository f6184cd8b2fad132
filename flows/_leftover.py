"""The old store that a move of streams leaves on the machine of the node that had them."""

from flows._migration import beside_of
from morpheus.cloud import Cloud
from morpheus.errors import MachineError
from morpheus.forest import Node


def discard_store(node: Node, cloud: Cloud) -> None:
    """Remove the old store on the machine of *node*; nothing happens where it is gone.

    Raises:
        MachineError: not all of it can be removed, and the rest stays for another time.
        UnreachableError: nobody gets onto the machine.
    """
    beside = beside_of(node, cloud)
    try:
        beside.discard()
    except OSError as error:  # of this computer
        raise MachineError(
            f"The old store {beside.kept} cannot be removed: {error.strerror or error}. Remove it by hand, "
            "then run this again."
        ) from error
