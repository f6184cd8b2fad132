"""Check forests: measure each one, judge whether it needs nodes, keep the reading, and publish all of it.

Every forest is checked for itself, several at once: what is wrong with one keeps nobody from the others.
"""

import logging
from typing import Any, cast

from prefect import flow, task
from prefect.futures import PrefectFuture, wait
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from blocks import open_cloud
from flows._growth import announce, publish
from morpheus import checkup, keyring, site
from morpheus import settings as config
from morpheus.checkup import Checkup
from morpheus.errors import ForestNotFoundError, MachineError
from morpheus.site import Found
from tasks._retry import RETRYING

log = logging.getLogger("morpheus.grow")


RUNNER = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=checkup.AT_ONCE))


def run_name() -> str:
    return f"grow-check-{flow_run.parameters.get('forest') or 'all'}"


@flow(name="grow-check", flow_run_name=run_name, task_runner=RUNNER)
def grow_check(forest: str | None = None, cloud: str = "settings") -> dict[str, str]:
    """Check one forest or all of them, publish what was seen, and return each one's verdict in a word.

    Args:
        forest: The forest to look at; left out, every one that is recorded.
        cloud: Where machines are that are not the worker's own: settings or a stored block as type/name.
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
            verdicts[name] = concluded(check)
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


def concluded(check: PrefectFuture[Checkup]) -> str:
    """What follows from a check: it is told. A forest that is to grow does so from here, once it can."""
    checked = check.result()
    name, verdict = checked.forest.name, checked.verdict
    log.info("%s: %s", name, verdict.sentence)
    publish(checked)
    announce(checked)
    return verdict.outcome.value


def failed(faults: dict[str, Exception]) -> MachineError:
    """All that went wrong, in one sentence."""
    told = [f"{name}: {str(error).rstrip('.')}" for name, error in faults.items()]
    return MachineError(f"{len(faults)} could not be checked: {'; '.join(told)}.")


@task(task_run_name="measure-{found.forest.name}", **RETRYING)
def measure(settings: config.Settings, found: Found, cloud: str) -> Checkup:
    """Check one forest; where nobody enters its machines, what is seen is whether they run."""
    forest = found.forest
    where = open_cloud("local" if forest.provider == "local" else cloud)
    where, unread = keyring.entered_or_why(settings, where, forest)
    if unread:
        log.warning("%s: nothing but its machines is looked at: %s", forest.name, unread)
    return checkup.check(settings, found, where, unread=unread, keep=True)
