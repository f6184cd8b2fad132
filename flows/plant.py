"""Plant a forest, or heal it: reserve its names, raise its machines, prove the cluster, record it as active.

A run that stops halfway leaves a forest in the status ``provisioning`` that planting again completes; what
the run itself created is removed when it fails or is cancelled (``keep`` leaves it for a later run).
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Literal

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from blocks import open_cloud, open_registry
from flows._machines import Ground
from flows._raising import Kit, raise_forest
from flows._story import Phases, publish
from flows._undo import sweep, take_back, undo
from morpheus import settings as config
from morpheus import site
from morpheus.embedded import check_mode
from morpheus.forest import MAX_NODES, Forest, size_warning, wanted_nodes
from morpheus.names import name_from
from morpheus.plan import Wanted, check_budget, reserve
from morpheus.registry.document import Document
from morpheus.registry.lease import Claim
from morpheus.wait import let_wait
from tasks._retry import settle
from tasks.registry import take_lease

log = logging.getLogger("morpheus.plant")


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
    kit = Kit.of(where, settings, registry, key)  # what is missing is said before anything is made

    def reserved(document: Document, now: datetime) -> Document:
        forest = reserve(document.forests.get(wanted.name), wanted, now)
        check_mode(forest, embedded=kit.embedded)
        check_budget(document.forests, forest, settings.budget.max_monthly_eur)
        return document.with_forest(forest)

    with take_lease(known, Claim(wanted.name, "plant", run), reserved, where.margin) as hold:
        phases.ended("reserved")
        try:
            if warning := size_warning(len(hold.forest.staying)):
                log.warning(warning)
            where, outfit = kit.equipped(hold)
            lost = raise_forest(Ground(where, hold, outfit, run, settings.provisioning, phases))
        except BaseException as error:
            if not isinstance(error, Exception):
                log.warning("%s: stopping; what is under way ends, what was made goes again", wanted.name)
            settle()
            if not keep:
                take_back(lambda: undo(where, hold, run, kit.vault, kit.shelf), hold, error)
            raise
    publish(hold.forest, phases)
    return Planted(hold.forest, phases.seconds, lost, phases.ends, phases.began)
