"""Check forests: measure each one, judge whether it needs nodes, publish that, and let those grow that do.

Every forest is checked for itself, several at once: what is wrong with one keeps nobody from the others.
"""

import logging
from typing import Any, cast

from prefect import flow, task
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.futures import PrefectFuture, wait
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import Field

from blocks import open_cloud
from flows._growth import announce, publish
from flows.discard import discard_old_store
from flows.grow import grow, sweep
from morpheus import checkup, keyring, site
from morpheus import settings as config
from morpheus.checkup import Checkup
from morpheus.errors import ForestBusyError, ForestNotFoundError, MachineError, OvertakenError
from morpheus.site import Found
from tasks._retry import RETRYING

log = logging.getLogger("morpheus.grow")

GREW = "grew"
ANSWER_TIMEOUT = 900  # seconds for a person to answer

RUNNER = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=checkup.AT_ONCE))


def run_name() -> str:
    return f"grow-check-{flow_run.parameters.get('forest') or 'all'}"


class Answer(RunInput):
    """What a person says who is asked in Prefect's UI."""

    add_nodes: bool = Field(default=False, description="Add the nodes?")


@flow(
    name="grow-check", flow_run_name=run_name, task_runner=RUNNER, on_cancellation=[sweep], on_crashed=[sweep]
)
def grow_check(
    forest: str | None = None,
    cloud: str = "settings",
    ask: bool = False,  # Prefect passes parameters by name
    key: str = "settings",
) -> dict[str, str]:
    """Check one forest or all of them, and let those grow that need it; each one's outcome in a word.

    Args:
        forest: The forest to look at; left out, every one that is recorded.
        cloud: Where machines are that are not the worker's own: settings or a stored block as type/name.
        ask: Pause before a forest grows, until a person has answered in the UI. Never in scheduled runs.
        key: What opens their secrets: settings (MORPHEUS_SECRET_KEY, else this device's) or a stored block.
    """
    settings = config.load()
    known = site.what_is_known(settings)
    found = [each for each in known.forests if forest in (None, each.forest.name)]
    if forest and not found:
        for fault in known.faults:
            raise fault
        raise ForestNotFoundError(f"There is no forest {forest}. {site.known_names(settings)}")
    checks = [measure.submit(settings, each, cloud) for each in found]
    wait(checks)
    faults: dict[str, Exception] = {}
    verdicts: dict[str, str] = {}
    for each, check in zip(found, checks, strict=True):
        name = each.forest.name
        try:
            verdicts[name] = concluded(check, cloud, key, ask=ask)
            tidy(check.result(), cloud, key)
        except Exception as error:  # noqa: BLE001  # one forest never keeps the others from being looked at
            log.error("%s: %s", name, error)  # noqa: TRY400  # the sentence says it all
            faults[name] = error
    faults |= {} if forest else {f"a registry ({k})": fault for k, fault in enumerate(known.faults, 1)}
    if faults:
        first = next(iter(faults.values()))
        if len(found) == 1 and list(faults) == [found[0].forest.name]:
            raise first
        raise failed(faults) from first
    return verdicts


def concluded(check: PrefectFuture[Checkup], cloud: str, key: str, *, ask: bool) -> str:
    """Tell what follows from a check, and let the forest grow if that is it."""
    checked = check.result()
    forest, verdict = checked.forest, checked.verdict
    log.info("%s: %s", forest.name, verdict.sentence)
    publish(checked)
    announce(checked)
    nodes = checked.wished if ask else checked.target
    if nodes is None or (ask and not agreed(checked, nodes)):
        return verdict.outcome.value
    try:
        grown = grow(
            forest.name,
            nodes,
            seen=len(forest.staying),
            expanded=forest.last_expansion,
            auto=not ask,
            cloud=cloud,
            key=key,
        )
    except OvertakenError as error:
        log.info("%s", error)
        return verdict.outcome.value
    return GREW if grown.fresh else verdict.outcome.value


def tidy(checked: Checkup, cloud: str, key: str) -> None:
    """Discard the old store of a forest that stands, once the time is over for which it is kept."""
    if not checked.discards:
        return
    try:
        discard_old_store(checked.forest.name, asked=False, cloud=cloud, key=key)
    except ForestBusyError as error:
        log.info("%s", error)  # the next check finds it again


def agreed(checked: Checkup, nodes: int) -> bool:
    """Whether a person says yes in Prefect's UI; no answer in time is no. Nothing is held meanwhile."""
    verdict, name = checked.verdict, checked.forest.name
    price = f" It costs up to {verdict.price}." if verdict.price else ""
    told = f"**{name}** is to have {nodes} nodes. {verdict.sentence}{price}"
    try:
        asked = Answer.with_initial_data(description=told)
        return pause_flow_run(wait_for_input=asked, timeout=ANSWER_TIMEOUT, key=name).add_nodes
    except FlowPauseTimeout:
        log.info("%s: nobody answered within %d s, so it stays as it is", name, ANSWER_TIMEOUT)
        return False


def failed(faults: dict[str, Exception]) -> MachineError:
    """All that went wrong, in one sentence."""
    told = [f"{name}: {str(error).rstrip('.')}" for name, error in faults.items()]
    return MachineError(f"{len(faults)} went wrong: {'; '.join(told)}.")


@task(task_run_name="measure-{found.forest.name}", **RETRYING)
def measure(settings: config.Settings, found: Found, cloud: str) -> Checkup:
    """Check one forest; where nobody enters its machines, what is seen is whether they run."""
    forest = found.forest
    where = open_cloud("local" if forest.provider == "local" else cloud)
    where, unread = keyring.entered_or_why(settings, where, forest)
    if unread:
        log.warning("%s: nothing but its machines is looked at: %s", forest.name, unread)
    return checkup.check(settings, found, where, unread=unread, keep=True)
