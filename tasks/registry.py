"""The registry: each write of a flow, as a task."""

import logging
from collections.abc import Callable
from datetime import datetime

from prefect import task

from morpheus.errors import ReloadError, StopError
from morpheus.forest import Forest
from morpheus.history import History
from morpheus.registry import Change, Registry
from morpheus.registry.care import Place
from morpheus.registry.lease import Claim, Hold
from morpheus.secrets import ForestSecrets
from morpheus.vault import Vault
from tasks._retry import RETRYING

log = logging.getLogger("morpheus.tasks")


@task(task_run_name="reserve-{claim.name}", **RETRYING)
def take_lease(registry: Registry, claim: Claim, prepare: Change, margin: float) -> Hold:
    """Take the forest for this run, with what is to be written along; see :class:`Hold`."""
    hold = Hold(registry, claim, prepare, margin=margin)
    log.info("%s: recorded in %s, held for %s", claim.name, registry.url, claim.operation)
    return hold


@task(task_run_name="record-{what}", **RETRYING)
def record(what: str, hold: Hold, change: Callable[[Forest, datetime], Forest | None]) -> Forest | None:
    """Change the forest's record while this run holds it; None forgets it. *what* names the run."""
    log.debug("recording %s", what)

    def known(forest: Forest | None, now: datetime) -> Forest | None:
        return change(forest, now) if forest else None

    return hold.update(known)


@task(task_run_name="secrets-{hold.forest.name}", **RETRYING)
def unlock(vault: Vault, hold: Hold) -> ForestSecrets:
    """Return the secrets of the forest, made before its first server and never again."""
    hold.check()
    return vault.ensure(hold.forest, newborn=hold.forest.run == hold.run)


@task(task_run_name="forget-secrets-{hold.forest.name}", **RETRYING)
def forget_secrets(vault: Vault, hold: Hold) -> None:
    """Remove the secrets of the forest, whose last machine is gone."""
    hold.check()
    vault.delete(hold.forest)


@task(task_run_name="forget-readings-{hold.forest.name}", **RETRYING)
def forget_readings(place: Place, hold: Hold) -> None:
    """Remove the readings of the forest; those that cannot be removed stay, for nothing depends on them."""
    hold.check()
    try:
        History(place, hold.forest).delete()
    except (StopError, ReloadError) as error:
        log.warning("the readings of %s stay: %s", hold.forest.name, error)
