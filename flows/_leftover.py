"""The old store that a move of streams leaves on the machine of the node that had them."""

import shutil

from flows._migration import BEFORE
from morpheus.cloud import Cloud
from morpheus.errors import MachineError
from morpheus.forest import Node
from morpheus.machine.local import LocalMachine
from morpheus.watch import machine_of


def discard_store(node: Node, cloud: Cloud) -> None:
    """Remove the old store on the machine of *node*; nothing happens where it is gone.

    Raises:
        MachineError: not all of it can be removed, and the rest stays for another time.
    """
    machine = machine_of(node, cloud)
    assert isinstance(machine, LocalMachine)
    store = machine.folder / BEFORE
    if not store.exists():
        return
    try:
        shutil.rmtree(store)
    except OSError as error:
        raise MachineError(
            f"The old store {store} cannot be removed: {error.strerror or error}. Remove it by hand, then "
            "run this again."
        ) from error
