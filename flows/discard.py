"""Discard the old store that a forest of one left when it became a cluster: on demand, or once it is time."""

import logging
from datetime import datetime

from prefect import flow, task
from pydantic import SecretStr

from blocks import open_vault
from flows._leftover import discard_store
from flows.grow import recorded, this_run
from flows.teardown import open_home
from morpheus import settings as config
from morpheus.cloud import Cloud
from morpheus.errors import ForestNotFoundError
from morpheus.forest import check_name
from morpheus.migration import discarded, is_discardable
from morpheus.registry.document import Document
from morpheus.registry.lease import Claim, Hold
from morpheus.wait import let_wait
from tasks._retry import RETRYING
from tasks.registry import record, take_lease

log = logging.getLogger("morpheus.grow")


@flow(name="discard-old-store", flow_run_name="discard-old-store-of-{name}")
def discard_old_store(
    name: str,
    asked: bool = True,  # Prefect passes parameters by name
    cloud: str = "settings",
    registry: str = "settings",
    key: str = "settings",
) -> bool:
    """Remove the old store of the forest; whether there was one to remove.

    Running it again completes what was interrupted.

    Args:
        name: The forest.
        asked: Somebody wants it; otherwise it goes only when the time is over for which it is kept.
        cloud: Where its machines are, unless on this computer: settings or a stored block as type/name.
        registry: Where it is recorded, unless on this computer: settings or a stored block as type/name.
        key: What opens its secrets: settings (MORPHEUS_SECRET_KEY, else this device's) or a stored block.
    """
    let_wait()
    settings = config.load()
    where, known = open_home(settings, check_name(name), cloud, registry)
    forest = recorded(known, name, settings)
    if not is_discardable(forest, known.now(), asked=asked):
        return False
    if where.needs_key:
        where = where.entered_with(SecretStr(open_vault(registry, key).open(forest).ssh_key))

    def allowed(document: Document, now: datetime) -> Document:
        if name not in document.forests:
            raise ForestNotFoundError(f"{name} is not there any more.")
        is_discardable(document.forests[name], now, asked=asked)
        return document

    with take_lease(known, Claim(name, "discard", this_run()), allowed, where.margin) as hold:
        if not is_discardable(hold.forest, known.now(), asked=asked):
            return False  # another one was faster
        remove_store(where, hold)
        record("discarded", hold, lambda forest, _: discarded(forest))
    log.info("%s: its old store is gone", name)
    return True


@task(task_run_name="discard-store-of-{hold.forest.name}", **RETRYING)
def remove_store(cloud: Cloud, hold: Hold) -> None:
    """Remove the old store, unless it went with its node."""
    migration = hold.forest.migration
    assert migration
    for node in hold.forest.nodes:
        if node.name == migration.node and node.ip:
            hold.check()
            discard_store(node, cloud)
