"""Look at forests: measure each node and publish what was seen. It decides nothing yet."""

import logging
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run

from blocks import open_cloud
from morpheus import keyring, site
from morpheus import settings as config
from morpheus.errors import ForestNotFoundError, MorpheusError
from morpheus.forest import Forest
from morpheus.health import Health, examine
from morpheus.site import Found
from tasks._retry import RETRYING

log = logging.getLogger("morpheus.grow")

BAR = 10  # characters


def run_name() -> str:
    return f"grow-check-{flow_run.parameters.get('forest') or 'all'}"


@flow(name="grow-check", flow_run_name=run_name)
def grow_check(forest: str | None = None, cloud: str = "settings") -> dict[str, bool]:
    """Measure one forest or all of them, publish a health table of each, and say which are formed.

    Args:
        forest: The forest to look at; left out, every one that is recorded.
        cloud: Where machines are that are not the worker's own: settings or a stored block as type/name.
    """
    settings = config.load()
    found = [each for each in site.everything(settings) if forest in (None, each.forest.name)]
    if forest and not found:
        raise ForestNotFoundError(f"There is no forest {forest}. {site.known_names(settings)}")
    formed, faults = {}, []
    for each in found:
        try:
            formed[each.forest.name] = check_one(settings, each, cloud)
        except MorpheusError as error:  # one forest never keeps the others from being looked at
            log.error("%s: %s", each.forest.name, error)  # noqa: TRY400  # the sentence says it all
            faults.append(error)
    if faults:
        raise faults[0]
    return formed


def check_one(settings: config.Settings, found: Found, cloud: str) -> bool:
    """Measure the forest and publish its table; whether it is formed."""
    forest = found.forest
    where = open_cloud("local" if forest.provider == "local" else cloud)
    where, unread = keyring.entered_or_why(settings, where, forest)
    if unread:
        log.warning("%s: nothing but its machines is looked at: %s", forest.name, unread)
    health = measure(forest, where, found.registry_id, unread)
    create_table_artifact(
        table=[row(each, health) for each in health.nodes],
        key=f"health-{forest.name}",
        description=f"**{forest.name}**: {health.formation.reason}",
    )
    log.info("%s: %s", forest.name, health.formation.reason)
    return health.formation.formed


@task(task_run_name="measure-{forest.name}", **RETRYING)
def measure(forest: Forest, cloud: Any, registry_id: str, unread: str = "") -> Health:
    """Ask every node of *forest* how it is; where nobody enters them, *unread* says why."""
    return examine(forest, cloud, registry_id, unread=unread)


def row(each: Any, health: Health) -> dict[str, str]:
    """One node as a row of the table."""
    reading = each.reading
    known = reading.known
    return {
        "node": each.node.label,
        "address": f"{each.node.ip or '-'}:{each.node.ports.client}",
        "state": each.state + (" (leader)" if health.formation.leader == each.node.name else ""),
        "cpu": bar(each.cpu) if known else "unknown",
        "memory": f"{reading.memory / 2**20:.0f} MiB" if known else "unknown",
        "storage": bar(100 * reading.storage / reading.max_storage) if reading.max_storage else "unknown",
        "connections": str(reading.connections) if known else "unknown",
        "messages in/out": f"{reading.messages_in} / {reading.messages_out}" if known else "unknown",
    }


def bar(percent: float) -> str:
    """A bar of ten characters and the number."""
    full = min(BAR, round(percent / 100 * BAR))
    return "█" * full + "░" * (BAR - full) + f" {percent:.0f}%"
