"""Take one node out of a forest that goes on: its streams move away first, its machine goes last."""

import logging
from datetime import datetime

from prefect import flow

from flows._raising import Kit, leave
from flows.grow import check_well, recorded, this_run
from flows.teardown import open_home
from morpheus import settings as config
from morpheus.errors import ForestNotFoundError
from morpheus.expansion import check_departure, whole_name
from morpheus.forest import Forest, check_name
from morpheus.registry.document import Document
from morpheus.registry.lease import Claim
from morpheus.wait import let_wait
from tasks.registry import take_lease

log = logging.getLogger("morpheus.depart")


@flow(name="remove-node", flow_run_name="remove-{node}-of-{name}")
def remove_node(
    name: str,
    node: str,
    cloud: str = "settings",
    registry: str = "settings",
    key: str = "settings",
) -> Forest:
    """Take the node out of the forest, and return the forest without it.

    Running it again completes what was interrupted.

    Args:
        name: The forest.
        node: Its node, as ``oak-node-4`` or ``node-4``.
        cloud: Where its machines are, unless on this computer: settings or a stored block as type/name.
        registry: Where it is recorded, unless on this computer: settings or a stored block as type/name.
        key: What opens its secrets: settings (MORPHEUS_SECRET_KEY, else this device's) or a stored block.
    """
    let_wait()
    settings = config.load()
    where, known = open_home(settings, check_name(name), cloud, registry)
    forest = recorded(known, name, settings)
    node = whole_name(forest, node)
    check_departure(forest, node)
    kit = Kit.of(where, settings, registry, key, creates=False)
    check_well(forest, *kit.opened(forest), without=node)

    def allowed(document: Document, _: datetime) -> Document:
        if name not in document.forests:
            raise ForestNotFoundError(f"{name} is not there any more.")
        check_departure(document.forests[name], node)
        return document

    with take_lease(known, Claim(name, "remove-node", this_run()), allowed, where.margin) as hold:
        entered, outfit = kit.equipped(hold)
        assert outfit  # where machines take no programs, no forest is well
        leave(node, entered, outfit, hold, settings.provisioning)
        return hold.forest
