"""Tear a forest down: machines first, the record last, so that nothing is forgotten that still exists."""

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial

from prefect import flow
from prefect.runtime import flow_run

from blocks import open_cloud, open_place, open_registry, open_shelf, removable_vault
from flows._migration import discard_archives
from flows._standby import forget
from morpheus import settings as config
from morpheus import site
from morpheus.cloud import Cloud
from morpheus.errors import ForestNotFoundError, InvalidInputError, MachineError, RefusedError
from morpheus.forest import Forest, check_name
from morpheus.plan import Verb, emptied, is_own, plan_teardown, subjects, torn
from morpheus.registry import Registry
from morpheus.registry.care import Place
from morpheus.registry.document import Document
from morpheus.registry.lease import Claim, Hold
from morpheus.shelf import Shelf
from morpheus.vault import Vault
from morpheus.watch import check_there
from tasks._retry import all_or_raise
from tasks.registry import forget_readings, forget_secrets, record, take_lease
from tasks.servers import clear, delete_server, list_servers
from tasks.share import clear_share

log = logging.getLogger("morpheus.teardown")


def run_name() -> str:
    return f"teardown-{flow_run.parameters.get('name') or 'nothing'}"


@flow(name="teardown", flow_run_name=run_name)
def teardown(
    name: str | None = None,
    cloud: str = "settings",
    registry: str = "settings",
    gone: bool = False,  # Prefect passes parameters by name
) -> tuple[str, ...]:
    """Remove every machine of the forest, then its record; return the names of the machines.

    Running it again completes a teardown that was interrupted.

    Args:
        name: The forest. It has to be given; without it the run fails and lists the forests there are.
        cloud: Where its machines are, unless they are on the worker's own: settings or a block as type/name.
        registry: Where it is recorded, unless on the worker's own machine: settings or a block as type/name.
        gone: Its machines are gone for certain: forget it also when the cloud has nothing of it.
    """
    settings = config.load()
    if not name:
        raise InvalidInputError(f"teardown needs the name of a forest. {site.known_names(settings)}")
    where, known = open_home(settings, check_name(name), cloud, registry)
    if not gone:
        check_there(known.read(), name, where)
    claim = Claim(name, "teardown", str(flow_run.id))
    with take_lease(
        known, claim, lambda document, now: leaving(document, name, where, now), where.margin
    ) as hold:
        place = site.local_place() if where.provider == "local" else open_place(registry)
        if not where.needs_key:
            return remove_all(where, hold, place)
        # Its home is made before anything tells that it has one, so it is looked for with every forest.
        return remove_all(where, hold, place, removable_vault(registry), partial(open_shelf, registry, where))


def open_home(settings: config.Settings, name: str, cloud: str, registry: str) -> tuple[Cloud, Registry]:
    """The cloud and the registry of the forest *name*.

    Raises:
        ForestNotFoundError: nothing is recorded under that name, and no machine of ours bears it.
    """
    local = site.local_registry()
    local_id = local.read().registry_id or ""
    if local.find(name) or site.local_cloud().list_servers(local_id, name):
        return site.local_cloud(), local
    found = site.find(settings, name)
    stored = None if cloud == "settings" else open_cloud(cloud)
    if found is None and registry == "settings" and not site.unrecorded(settings, name, stored):
        raise ForestNotFoundError(f"There is no forest {name}. {site.known_names(settings)}")
    where = stored or open_cloud(cloud)
    return where, found.registry if found else open_registry(registry, where.provider)


def leaving(document: Document, name: str, cloud: Cloud, now: datetime) -> Document:
    """The document with the forest on its way out; one that only machines told of is recorded first."""
    forest = document.forests.get(name) or Forest(name, provider=cloud.provider, created_at=now)
    if forest.provider not in ("", cloud.provider):
        raise RefusedError(
            f"{name} is a forest on {forest.provider}, and this is {cloud.provider}: nothing was changed. "
            "Tear it down where its provider is configured."
        )
    return document.with_forest(torn(forest))


def remove_all(
    cloud: Cloud,
    hold: Hold,
    place: Place,
    vault: Vault | None = None,
    find_shelf: Callable[[], Shelf | None] | None = None,
) -> tuple[str, ...]:
    """Delete what is recorded or found, look again, and only then forget."""
    name = hold.forest.name
    steps = plan_teardown(hold.forest, name, list_servers(cloud, hold.registry_id, name))
    machines = subjects(steps, Verb.DELETE)
    all_or_raise([delete_server.submit(each, cloud, hold) for each in machines])
    strange = [node.name for node in hold.forest.nodes if not is_own(node, name)]
    if left := cloud.list_servers(hold.registry_id, name):
        raise MachineError(
            f"{', '.join(server.name for server in left)} still exist, so {name} stays recorded: "
            f"run morpheus teardown {name} again."
        )
    if find_shelf:
        clear_share(find_shelf, hold)
    record("end", hold, lambda forest, _: emptied(forest))
    clear(cloud, hold)
    site.access_folder().forget(name)
    discard_archives(name)
    forget(name)
    if vault:
        forget_secrets(vault, hold)
    forget_readings(place, hold)
    if strange:
        log.warning(
            "%s: its record also listed %s, which is no node of it and was not touched",
            *(name, ", ".join(map(ascii, strange))),
        )
    record("departure", hold, lambda *_: None)
    log.info("%s: gone, with %d machine(s)", name, len(machines))
    return machines
