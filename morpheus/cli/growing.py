"""Growing from the command line: find the forest, check it, and say how the command ends. No Prefect here."""

import time
from collections.abc import Iterator

from morpheus import checkup, site
from morpheus import settings as config
from morpheus.checkup import Checkup
from morpheus.cli import asking, looking
from morpheus.errors import MissingPartError, NotReadyError
from morpheus.growth import Outcome, Policy
from morpheus.site import Found

WATCH_EVERY = 2.0  # seconds between two checks, each of which takes some itself

EXIT_CODES = {
    Outcome.NOTHING: 0,
    Outcome.GROW: 10,
    Outcome.MAY_NOT: 11,
    Outcome.UNHEALTHY: NotReadyError.exit_code,
    Outcome.UNKNOWN: NotReadyError.exit_code,
}


def meant(name: str | None) -> Found:
    """The forest *name*, or the only one there is, or the one that a person chooses.

    Raises:
        ForestNotFoundError: there is none of that name.
        InvalidInputError: no name was given, there is not exactly one forest, and nobody is here.
    """
    if name is None and asking.somebody_is_here():
        names = [each.forest.name for each in site.everything(config.load())]
        if len(names) > 1:
            name = asking.answer(f"Which forest ({', '.join(names)}): ", names)
    return looking.the_forest(name)


def check(found: Found, threshold: float | None) -> Checkup:
    """Check the forest, and change nothing; *threshold* takes the place of every threshold."""
    return next(checks(found, threshold))


def checks(found: Found, threshold: float | None) -> Iterator[Checkup]:
    """Check the forest again and again, and change nothing."""
    settings = config.load()
    cloud, unread = site.cloud_of(settings, found.forest), "not tried yet"
    policy = Policy.of(settings, threshold)
    while True:
        if unread:
            cloud, unread = looking.entered(settings, found, cloud)
        yield checkup.check(settings, found, cloud, unread=unread, policy=policy, keep=False)
        time.sleep(WATCH_EVERY)
        found = looking.the_forest(found.forest.name)


def expand(name: str, nodes: int) -> None:
    """Add so many *nodes* to the forest *name*."""
    raise MissingPartError(
        f"{name} needs {nodes} more node(s), and this Morpheus adds none yet: --dry-run shows the check."
    )
