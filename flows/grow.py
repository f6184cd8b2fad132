"""Let a forest grow: claim the right to it, raise the new nodes as a plant does, prove that they carry load.

The claim is one write, in which the cooldown is checked and begins anew. What this run added is taken out
again when it fails, with nothing lost; a run that is killed leaves a forest in the status ``growing``, which
the next one completes.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from prefect import Flow, flow, task
from prefect.client.schemas.objects import FlowRun, State
from prefect.runtime import flow_run
from pydantic import Field

from flows._departure import take_out
from flows._machines import Ground
from flows._migration import BESIDE, clear_move, move, room_to_move, undo_move
from flows._raising import Kit, raise_forest
from flows._spread import spread_programs, spread_streams
from flows._standby import standby
from flows._story import Phases, publish
from flows._undo import take_back
from flows.teardown import open_home
from morpheus import settings as config
from morpheus import site
from morpheus.cloud import Cloud
from morpheus.embedded import check_mode
from morpheus.errors import (
    ForestNotFoundError,
    LeaseLostError,
    MorpheusError,
    NotReadyError,
    OvertakenError,
    RefusedError,
)
from morpheus.expansion import Decision, claimed
from morpheus.forest import MAX_NODES, Forest, Price, Status, check_name, size_warning
from morpheus.growth import steps
from morpheus.migration import Phase, begun, is_moving, phase_of, undone
from morpheus.nats.cluster import CURRENT, Formation
from morpheus.outfit import Outfit
from morpheus.plan import check_budget, made_by
from morpheus.registry import Registry
from morpheus.registry.document import Document
from morpheus.registry.lease import Claim, Hold
from morpheus.settings import Settings
from morpheus.wait import let_wait, wait_until
from morpheus.watch import judged, read_nodes
from tasks._retry import RETRYING, settle
from tasks.registry import take_lease

log = logging.getLogger("morpheus.grow")

WELL = 10.0  # seconds in which a forest has to show that it is whole


@dataclass(frozen=True, slots=True)
class Grown:
    """What an expansion did: the forest, the nodes it was given, and the seconds it took.

    ``phases`` says after how many seconds each phase had ended.
    """

    forest: Forest
    fresh: tuple[str, ...]
    seconds: float
    phases: Mapping[str, float] = field(default_factory=dict)


def this_run() -> str:
    """The run whose hooks take back what is made: the outermost, for it is that one which a worker ends."""
    return str(flow_run.root_flow_run_id or flow_run.id)


def sweep(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Take back from outside what a run added, after it was cancelled or its process died."""
    del flow, state
    given = flow_run.parameters or {}
    if given.get("keep"):
        return
    settings, run = config.load(), str(flow_run.id)
    for found in site.what_is_known(settings).forests:  # a registry that is away hides nothing of the others
        forest = found.forest
        if forest.status != Status.GROWING or not made_by(forest, run):
            continue
        slugs = given.get("cloud", "settings"), given.get("registry", "settings")
        try:
            undo_from_outside(forest.name, run, *slugs, given.get("key", "settings"))
        except MorpheusError as error:
            log.warning("%s: what was added could not be taken out again: %s", forest.name, error)


def undo_from_outside(name: str, run: str, cloud: str, registry: str, key: str) -> None:
    """Take out again what *run* added, which had these slugs and has ended.

    Raises:
        OvertakenError: somebody has finished or undone it, or tears the forest down.
    """
    settings = config.load()
    where, known = open_home(settings, name, cloud, registry)
    kit = Kit.of(where, settings, registry, key, creates=False)

    def unfinished(document: Document, _: datetime) -> Document:
        found = document.forests.get(name)
        moved = found and found.migration and found.migration.run == run
        if found is None or found.status != Status.GROWING or not (moved or made_by(found, run)):
            raise OvertakenError(f"{name} is not as that run left it: another one was faster.")
        return document

    with Hold(known, Claim(name, "undo", run), unfinished, margin=where.margin) as hold:
        entered, outfit = kit.opened(hold.forest)
        undo(entered, hold, run, outfit, settings)


def go_on(name: str, cloud: str, registry: str, key: str) -> None:
    """Finish the move of streams that a run with these slugs left, or undo it where that may be."""
    try:
        forest = open_home(config.load(), name, cloud, registry)[1].find(name)
    except ForestNotFoundError:
        return
    if forest is None or forest.status != Status.GROWING or not is_moving(forest):
        return
    assert forest.migration
    if phase_of(forest.migration) is not Phase.COMMITTED:
        undo_from_outside(name, forest.migration.run, cloud, registry, key)
        return
    nodes = len(forest.staying)  # so it is refused where somebody else has finished it meanwhile
    grow(name, nodes, nodes, forest.last_expansion, auto=True, cloud=cloud, registry=registry, key=key)


@flow(name="grow", flow_run_name="grow-{name}", on_cancellation=[sweep], on_crashed=[sweep])
def grow(  # noqa: C901, PLR0913, PLR0917  # each one is a fact of the decision, or a choice of who decides
    name: str,
    nodes: Annotated[int, Field(ge=1, le=MAX_NODES)] | None = None,
    seen: int | None = None,
    expanded: datetime | None = None,
    auto: bool = False,  # Prefect passes parameters by name
    cloud: str = "settings",
    registry: str = "settings",
    key: str = "settings",
    keep: bool = False,
    rebalance: Literal["leaders", "none"] | None = None,
) -> Grown:
    """Give the forest more nodes, and return it once each of them has stored a message.

    Args:
        name: The forest.
        nodes: The number of nodes it is to have. Left out, the next one that makes sense.
        seen: How many it had when that was decided; it has to have as many still. Left out: as it has now.
        expanded: When it had last grown then; counts only together with *seen*.
        auto: Nobody was asked: growth has to be enabled, and the cooldown over.
        cloud: Where its machines are, unless on this computer: settings or a stored block as type/name.
        registry: Where it is recorded, unless on this computer: settings or a stored block as type/name.
        key: What opens its secrets: settings (MORPHEUS_SECRET_KEY, else this device's) or a stored block.
        keep: When it fails, leave what was added, so that growing again can go on from there.
        rebalance: leaders moves some streams and their leaders to the new nodes. Left out: growth.rebalance.
    """
    phases = Phases()
    let_wait()
    run, settings = this_run(), config.load()
    where, known = open_home(settings, check_name(name), cloud, registry)
    forest = recorded(known, name, settings)
    if auto and not settings.growth.enabled and not is_moving(forest):  # whose programs may wait for its end
        raise RefusedError(f"{name} does not grow unasked, for growth.enabled is false: nothing was changed.")
    finishes = phase_of(forest.migration) is Phase.COMMITTED  # which needs nothing new
    where.check(creates=not finishes)
    kit = Kit.of(where, settings, registry, key, creates=not finishes)
    if forest.status == Status.ACTIVE:
        check_well(forest, *kit.opened(forest))
    decision = decided(forest, settings, nodes, seen, expanded, auto=auto)
    price = Price() if finishes else where.price()
    held = room_to_move(forest, *kit.opened(forest)) if needs_move(forest) else 0

    def claim(document: Document, now: datetime) -> Document:
        found = still_there(document, name, growing=finishes)
        grown = claimed(found, decision, run, now, price)
        if needs_move(found):
            grown = begun(grown, run, BESIDE, held, now)
        check_mode(grown, embedded=kit.embedded)
        if not finishes:
            check_budget(document.forests, grown, settings.budget.max_monthly_eur)
        return document.with_forest(grown)

    with (
        take_lease(known, Claim(name, "grow", run), claim, where.margin) as hold,
        standby(hold, cloud, registry, key),
    ):
        phases.ended("claimed")
        fresh, outfit = added(hold.forest, run), None
        try:
            if warning := size_warning(len(hold.forest.staying)):
                log.warning(warning)
            where, outfit = kit.equipped(hold)
            ground = Ground(where, hold, outfit, run, settings.provisioning, phases)
            if is_moving(hold.forest):
                assert outfit
                fresh = move_or_begin_anew(ground, outfit)
            else:
                raise_forest(ground)
        except BaseException as error:
            if not isinstance(error, Exception):
                log.warning("%s: stopping; what is under way ends", name)
            settle()
            if not keep:
                take_back(lambda: undo(where, hold, run, outfit, settings), hold, error)
            raise
        if (rebalance or settings.growth.rebalance) == "leaders":
            share_out(where, hold, outfit, fresh)
            phases.ended("rebalanced")
    publish(hold.forest, phases)
    return Grown(hold.forest, fresh, phases.seconds, phases.ends)


def recorded(registry: Registry, name: str, settings: Settings) -> Forest:
    """The forest *name*.

    Raises:
        ForestNotFoundError: there is none; names those there are.
    """
    if forest := registry.find(name):
        return forest
    raise ForestNotFoundError(f"There is no forest {name}. {site.known_names(settings)}")


def still_there(document: Document, name: str, *, growing: bool) -> Forest:
    """The forest *name* of the *document*.

    Raises:
        ForestNotFoundError: it is gone.
        OvertakenError: it was *growing*, and another one has finished that.
    """
    if name not in document.forests:
        raise ForestNotFoundError(f"{name} is not there any more.")
    found = document.forests[name]
    if growing and found.status != Status.GROWING:
        raise OvertakenError(f"{name} has become a cluster: another one was faster, so nothing was changed.")
    return found


def decided(  # noqa: PLR0913  # each one is a fact of it
    forest: Forest,
    settings: Settings,
    nodes: int | None,
    seen: int | None,
    expanded: datetime | None,
    *,
    auto: bool,
) -> Decision:
    """What was decided about *forest*, now or, with *seen*, when it was looked at."""
    growth, count = settings.growth, len(forest.staying)
    return Decision(
        nodes=nodes or count + steps(count, odd=growth.step == "odd"),
        seen=count if seen is None else seen,
        expanded=forest.last_expansion if seen is None else expanded,
        most=growth.max_nodes,
        rest=timedelta(minutes=growth.cooldown_minutes if auto else 0),
    )


def share_out(cloud: Cloud, hold: Hold, outfit: Outfit | None, fresh: tuple[str, ...]) -> None:
    """Let the nodes *fresh* have their share of the streams; the forest has grown, whatever comes of it."""
    if outfit is None or outfit.access is None:
        return  # what workloads bring is theirs
    try:
        spread_streams(cloud, hold, outfit.access, fresh)
        spread_programs(cloud, hold, outfit.access, fresh)
    except LeaseLostError:
        raise
    except MorpheusError as error:
        log.warning("%s has grown, but not all was shared out: %s", hold.forest.name, error)


def added(forest: Forest, run: str) -> tuple[str, ...]:
    """The nodes that *run* adds and has not finished."""
    return tuple(node.name for node in made_by(forest, run))


def move_or_begin_anew(ground: Ground, outfit: Outfit) -> tuple[str, ...]:
    """Move the streams of a single server; what an earlier run left is finished, or undone and begun anew.

    Returns the names of the nodes that came with that.
    """
    hold, migration = ground.hold, ground.hold.forest.migration
    assert migration
    if phase_of(migration) is not Phase.COMMITTED and migration.run != ground.run:
        again = Decision(len(hold.forest.staying), seen=1, expanded=hold.forest.last_expansion)
        clear_move(ground.cloud, hold, outfit)
        held, price = room_to_move(undone(hold.forest), ground.cloud, outfit), ground.cloud.price()

        def begin(forest: Forest | None, now: datetime) -> Forest | None:
            """In one write, so that the budget was kept all the time for what the first run claimed."""
            grown = forest and claimed(undone(forest), again, ground.run, now, price)
            return grown and begun(grown, ground.run, BESIDE, held, now)

        hold.update(begin)
    move(ground, outfit)
    if hold.forest.migration is None:  # the machine of the old server is gone
        raise_forest(ground)
    return tuple(node.name for node in hold.forest.staying if node.name != migration.node)


def needs_move(forest: Forest) -> bool:
    """Whether *forest* is a single server, whose streams a cluster would delete where they are."""
    return forest.status == Status.ACTIVE and len(forest.staying) == 1 and not forest.is_embedded


def undo(cloud: Cloud, hold: Hold, run: str, outfit: Outfit | None, settings: Settings) -> None:
    """Take out again what *run* added."""
    if is_moving(hold.forest):
        if phase_of(hold.forest.migration) is Phase.COMMITTED:
            log.warning("%s: its streams have moved, which is finished and not undone", hold.forest.name)
        else:
            assert outfit
            undo_move(cloud, hold, outfit)
        return
    take_out(cloud, hold, outfit, added(hold.forest, run), settings.provisioning)


@task(task_run_name="look-at-{forest.name}", **RETRYING)
def check_well(forest: Forest, cloud: Cloud, outfit: Outfit | None, without: str = "") -> None:
    """Return when the servers of *forest* are all well, but for one *without* which it is to go on.

    Raises:
        NotReadyError: they are not; it is to be healed first.
    """
    if outfit is None:
        raise RefusedError(f"The machines of {forest.name} take no programs, so it keeps its size.")
    placed = [node for node in forest.staying if node.ip]
    others = {node.name for node in placed} - {without}

    def seen() -> Formation:
        return judged(placed, read_nodes(placed, cloud))

    def well(verdict: Formation) -> bool:
        whole = all(verdict.states[name] == CURRENT for name in others)
        return verdict.formed or not verdict.known or bool(without and verdict.leader and whole)

    try:
        wait_until(
            f"{forest.name} to be whole",
            seen,
            well,
            lambda verdict: verdict.reason,
            timeout=WELL,
            interval=0.2,
        )
    except NotReadyError as error:
        raise NotReadyError(
            f"{forest.name} keeps its size while it is unhealthy: {error} Heal it with morpheus plant "
            f"{'local' if forest.provider == 'local' else 'cloud'} --name {forest.name}; nothing was changed."
        ) from error
