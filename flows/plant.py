"""Plant a forest, or heal it: reserve its names, raise its machines, prove the cluster, record it as active.

A run that stops halfway leaves a forest in the status ``provisioning`` that planting again completes; what
the run itself created is removed when it fails or is cancelled (``keep`` leaves it for a later run).
"""

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Literal

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field, SecretStr

from blocks import open_cloud, open_registry, open_shelf, open_vault
from flows._machines import Ground, bring_up, deliver
from flows._peers import remove_peers, streams_at_stake
from flows._proof import prove
from flows._story import Phases, publish
from flows._undo import sweep, undo
from morpheus import folders, site
from morpheus import settings as config
from morpheus.cloud import Cloud
from morpheus.embedded import EmbeddedOutfit, check_heal, check_mode, is_wanted
from morpheus.errors import LeaseLostError, MorpheusError
from morpheus.forest import MAX_NODES, Forest, Price, size_warning, wanted_nodes
from morpheus.machine.binaries import Binary, find_programs
from morpheus.machine.bootstrap import read_script
from morpheus.names import name_from
from morpheus.outfit import LocalOutfit, MachineOutfit, Outfit
from morpheus.plan import (
    Verb,
    Wanted,
    activated,
    check_budget,
    plan_plant,
    replaced,
    reserve,
    subjects,
)
from morpheus.registry.document import Document
from morpheus.registry.lease import Claim, Hold
from morpheus.shelf import Shelf
from morpheus.vault import Vault
from morpheus.wait import let_wait
from tasks._retry import settle
from tasks.registry import record, take_lease, unlock
from tasks.servers import observe
from tasks.share import make_share

log = logging.getLogger("morpheus.plant")

Found = Callable[[str | None], tuple[Binary | None, Binary | None]]
"""nats-server and the workload for a platform; None is this computer's."""


@dataclass(frozen=True, slots=True)
class Planted:
    """What a plant did: the forest, the seconds it took, and the streams that were lost before it.

    ``phases`` says after how many seconds each phase had ended; they count from ``began``, a time as
    time.monotonic() tells it.
    """

    forest: Forest
    seconds: float
    lost_streams: tuple[str, ...] = ()
    phases: Mapping[str, float] = field(default_factory=dict)
    began: float = 0.0


def run_name() -> str:
    """``plant-<forest>``, also when the run names the forest."""
    return f"plant-{flow_run.parameters.get('name') or name_from(str(flow_run.id))}"


@flow(name="plant", flow_run_name=run_name, on_cancellation=[sweep], on_crashed=[sweep])
def plant(  # noqa: PLR0913, PLR0917  # each one is a choice of the person who plants
    name: str | None = None,
    size: Literal["small", "medium", "large"] | None = None,
    nodes: Annotated[int, Field(ge=1, le=MAX_NODES)] | None = None,
    cloud: str = "settings",
    registry: str = "settings",
    key: str = "settings",
    keep: bool = False,  # Prefect passes parameters by name
) -> Planted:
    """Plant the forest, or heal it, and return it once a message has passed through its cluster.

    Args:
        name: Its name: a DNS label of at most 50 characters. Left out, the run makes one up.
        size: small is 1 node, medium 3, large 5. Left out: as it is, or medium for a new forest.
        nodes: The number of nodes, instead of a size. Two are refused; odd numbers are the better choice.
        cloud: Where machines come from: local, settings (morpheus.yaml), or a stored block as type/name.
        registry: Where the forest is recorded: settings (morpheus.yaml) or a stored block as type/name.
        key: What opens its secrets: settings (MORPHEUS_SECRET_KEY, else this device's) or a stored block.
        keep: When it fails, leave what was created, so that planting again can go on from there.
    """
    phases = Phases()
    let_wait()
    run = str(flow_run.id)
    where = open_cloud(cloud)
    known = open_registry(registry, where.provider)
    settings = config.load()
    wanted = Wanted(
        name_from(run) if name is None else name,
        wanted_nodes(size, nodes),
        where.provider,
        where.location,
        known.url,
        run,
    )
    is_new = known.find(wanted.name) is None
    where.check(creates=is_new)
    if is_new:
        wanted = replace(wanted, price=where.price())
    site.check_unique(settings, wanted.name, known)
    vault = open_vault(registry, key) if where.needs_key else None
    found = functools.cache(functools.partial(find_programs, settings.integration, folders.cache_dir()))
    for target in where.platforms():  # what cannot be fetched is said before anything is made
        found(target)
    embedded = where.needs_key and is_wanted(settings.integration)
    shelf = open_shelf(registry, where) if embedded else None
    script = read_script(settings.integration.bootstrap_script)

    def reserved(document: Document, now: datetime) -> Document:
        forest = reserve(document.forests.get(wanted.name), wanted, now)
        check_mode(forest, embedded=embedded)
        check_budget(document.forests, forest, settings.budget.max_monthly_eur)
        return document.with_forest(forest)

    with take_lease(known, Claim(wanted.name, "plant", run), reserved, where.margin) as hold:
        phases.ended("reserved")
        try:
            if warning := size_warning(len(hold.forest.staying)):
                log.warning(warning)
            where, outfit = equipped(where, hold, vault, settings, found, script, shelf)
            lost = raise_forest(Ground(where, hold, outfit, run, settings.provisioning, phases))
        except BaseException as error:
            if not isinstance(error, Exception):
                log.warning("%s: stopping; what is under way ends, what was made goes again", wanted.name)
            settle()
            if not keep:
                take_back(where, hold, run, error, vault, shelf)
            raise
    publish(hold.forest, phases)
    return Planted(hold.forest, phases.seconds, lost, phases.ends, phases.began)


def take_back(  # noqa: PLR0913, PLR0917  # each one is a part of what was made
    cloud: Cloud, hold: Hold, run: str, error: BaseException, vault: Vault | None, shelf: Shelf | None
) -> None:
    """Undo the run, which ended with *error*; where that is not possible, say what may be left.

    Raises:
        LeaseLostError: another operation took the forest over, which is why the run could not go on.
    """
    try:
        undo(cloud, hold, run, vault, shelf)
    except LeaseLostError as lost:
        if isinstance(error, Exception):
            raise lost from error
    except MorpheusError as fault:
        log.warning(
            "%s: what was made could not all be removed again (%s) It stays recorded and may cost: plant "
            "again to go on, or morpheus teardown %s",
            *(hold.forest.name, fault, hold.forest.name),
        )


def equipped(  # noqa: PLR0913, PLR0917  # each one is a part of it
    cloud: Cloud,
    hold: Hold,
    vault: Vault | None,
    settings: config.Settings,
    found: Found,
    script: bytes | None,
    shelf: Shelf | None,
) -> tuple[Cloud, Outfit | None]:
    """The cloud as its machines are entered for this forest, and what they are given."""
    if vault:
        secrets = unlock(vault, hold)
        entered = cloud.entered_with(SecretStr(secrets.ssh_key))
        if not is_wanted(settings.integration):
            return entered, MachineOutfit(secrets, settings, found, script=script)
        share = make_share(shelf, vault, hold) if shelf else None
        return entered, EmbeddedOutfit(secrets, settings, found, script=script, shelf=shelf, share=share)
    if not cloud.runs_programs:
        log.warning("only machines are made: no programs can be put on those of %s", cloud.provider)
        return cloud, None
    server, workload = found(None)
    assert server
    log.info("nats-server %s from %s", server.version, server.origin)
    access = site.access_folder().ensure(hold.forest.name)
    return cloud, LocalOutfit(access, server.path, workload.path if workload else None)


def raise_forest(ground: Ground) -> tuple[str, ...]:
    """From whatever is there to an active forest; returns the streams that were lost before."""
    hold, forest, outfit = ground.hold, ground.hold.forest, ground.outfit
    steps = plan_plant(forest, observe(ground.cloud, hold.registry_id, forest.name, forest))

    if leaving := subjects(steps, Verb.REMOVE_PEER):
        retiring = subjects(steps, Verb.RETIRE)
        check_heal(forest, retiring)
        bring_up(ground, subjects(steps, Verb.REVIVE), without=retiring)
        lost: tuple[str, ...] = ()
        access = outfit.access if outfit else None
        if access:
            lost = streams_at_stake(ground.cloud, hold, leaving, access, ground.wait)
        fresh = subjects(steps, Verb.RESERVE)
        price = ground.cloud.price() if fresh else Price()
        record(
            "replacement",
            hold,
            lambda forest, now: replaced(forest, retiring, fresh, lost, ground.run, now, price),
        )
        remove_peers(ground.cloud, hold, leaving, access)
        bring_up(ground, subjects(steps, Verb.CREATE))
    else:
        bring_up(ground, (*subjects(steps, Verb.REVIVE), *subjects(steps, Verb.CREATE)))

    lost = hold.forest.lost_streams
    if outfit:
        prove(ground, outfit, healed=bool(leaving or subjects(steps, Verb.REVIVE)))
        ground.phases.ended("verified")
    record("active", hold, lambda forest, _: activated(forest))
    if hold.forest.is_embedded and outfit:
        deliver(ground, outfit, hold.forest.staying)  # as it stands in the registry now
    ground.phases.ended("active")
    return lost
