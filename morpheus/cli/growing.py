"""Growing from the command line: find the forest, check it, ask, and say how the command ends."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from morpheus import checkup, site
from morpheus import settings as config
from morpheus.checkup import Checkup
from morpheus.cli import asking, looking
from morpheus.cli.show.text import me
from morpheus.errors import MorpheusError, NotReadyError
from morpheus.expansion import Decision, adds_only, claimed
from morpheus.forest import Forest, Migration, Price, Status, check_count
from morpheus.growth import Outcome, Policy
from morpheus.interrupted import NOTHING, leaves
from morpheus.migration import is_discardable, is_moving, old_store
from morpheus.plan import check_budget
from morpheus.site import Found

if TYPE_CHECKING:
    from flows.grow import Grown

log = logging.getLogger("morpheus.grow")

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


def check(found: Found, threshold: float | None, *, keep: bool) -> Checkup:
    """Check the forest, and *keep* the reading; *threshold* takes the place of every threshold."""
    return next(checks(found, threshold, keep=keep))


def checks(found: Found, threshold: float | None, *, keep: bool = False) -> Iterator[Checkup]:
    """Check the forest again and again; nothing is changed unless the readings are to be kept."""
    settings = config.load()
    cloud, unread = site.cloud_of(settings, found.forest), "not tried yet"
    policy = Policy.of(settings, threshold)
    while True:
        if unread:
            cloud, unread = looking.entered(settings, found, cloud)
        yield checkup.check(settings, found, cloud, unread=unread, policy=policy, keep=keep)
        time.sleep(WATCH_EVERY)
        found = looking.the_forest(found.forest.name)


@dataclass(frozen=True, slots=True)
class Wish:
    """What who calls wants: so many *nodes* in all, or what the load calls for; asked before, or not."""

    nodes: int | None = None
    auto: bool = False
    yes: bool = False


def target(checked: Checkup, wish: Wish) -> int | None:
    """How many nodes the forest is to have; None where it is left as it is.

    Raises:
        InvalidInputError: it has as many as are wished for.
    """
    if wish.nodes is None or checked.unfinished:
        return checked.target if wish.auto else checked.wished
    verdict, forest = checked.verdict, checked.forest
    if wish.nodes <= len(forest.staying):
        raise adds_only(forest)
    whole = verdict.outcome not in {Outcome.UNHEALTHY, Outcome.UNKNOWN}
    return check_count(wish.nodes) if whole else None


def agreed(checked: Checkup, nodes: int, wish: Wish) -> bool:
    """Whether nobody has to be asked, or a person who is here says yes."""
    if wish.auto or wish.yes:
        return True
    if not asking.somebody_is_here():
        return False
    if asking.agreed(_question(checked, nodes)):
        return True
    asking.tell("Nothing was changed.")
    return False


def _question(checked: Checkup, nodes: int) -> str:
    forest = checked.forest
    if more := nodes - len(forest.staying):
        return f"Add {more} node(s)?"
    if any(node.status == Status.PROVISIONING for node in forest.staying) or is_moving(forest):
        return "Its expansion was interrupted. Go on with it?"
    left = ", ".join(node.label for node in forest.nodes if node.leaving)
    return f"An expansion failed, and was not all taken back ({left}). Finish that?"


def preview(checked: Checkup, nodes: int) -> Price:
    """What it would cost at most to grow to so many *nodes*, which a person wishes for.

    Raises:
        RefusedError: it may not: its most, or the budget.
        InvalidInputError: it cannot have so many.
    """
    settings, facts, forest = config.load(), checked.facts, checked.forest
    cloud = site.cloud_of(settings, forest)
    price, most = cloud.price(), settings.growth.max_nodes
    decision = Decision(nodes, len(forest.staying), forest.last_expansion, most)
    grown = claimed(forest, decision, "", facts.now, price)
    check_budget(facts.recorded, grown, settings.budget.max_monthly_eur)
    return sum((price,) * (nodes - len(forest.staying)), Price())


def everywhere(
    threshold: float | None,
    *,
    dry_run: bool,
    seen: Callable[[Checkup, Price | None], None],
    done: Callable[[Checkup, "Grown | None"], None],
) -> int:
    """Check every forest there is and let those grow that need it, unasked; returns the exit code.

    One that fails keeps none of the others from its check.
    """
    codes, forests = [], site.everything(config.load())
    if not forests:
        asking.tell("There are no forests yet, so nothing was checked.")
    for found in forests:
        try:
            codes.append(one(found, threshold, Wish(auto=True), dry_run=dry_run, seen=seen, done=done))
        except MorpheusError as error:
            log.error("%s: %s", found.forest.name, error)  # noqa: TRY400  # the sentence says it all
            codes.append(error.exit_code)
    return max(codes, key=lambda code: (code not in {0, 10, 11}, code), default=0)


def one(  # noqa: PLR0913  # each one is a fact of the check, or what is printed
    found: Found,
    threshold: float | None,
    wish: Wish,
    *,
    dry_run: bool,
    seen: Callable[[Checkup, Price | None], None],
    done: Callable[[Checkup, "Grown | None"], None],
) -> int:
    """Check one forest, and let it grow as is wished; returns the exit code.

    *seen* is told what was seen, and what the wish costs, before anybody is asked; *done* what came of it.
    """
    with contextlib.nullcontext() if wish.auto else leaves(NOTHING):  # unasked, others may have grown before
        checked, grown = check(found, threshold, keep=not dry_run), None
        nodes = target(checked, wish)
        wished = wish.nodes is not None and nodes is not None and not checked.unfinished
        seen(checked, preview(checked, nodes) if wished and nodes else None)
        wanted = None if dry_run else nodes
        goes_on = wanted is not None and agreed(checked, wanted, wish)
    if wanted is not None and goes_on:
        grown = expand(checked, wanted, auto=wish.auto)
    elif wanted is not None and not asking.somebody_is_here():
        command = f"{me()} grow {checked.forest.name}{f' --nodes {nodes}' if wished else ''} --yes"
        asking.tell(f"Nobody is here to say yes, so nothing was changed: {command}")
    done(checked, grown)
    if wish.auto and checked.discards and not dry_run:
        removed(checked.forest.name, asked=False)
    if grown and wish.nodes and len(grown.forest.staying) < wish.nodes:
        command = f"morpheus grow {checked.forest.name} --nodes {wish.nodes}"
        asking.tell(
            f"What was begun before is finished first; for {wish.nodes} nodes run this again: {command}"
        )
        return EXIT_CODES[Outcome.GROW]
    if wanted is not None or wished:
        return 0 if grown else EXIT_CODES[Outcome.GROW]
    return EXIT_CODES[checked.verdict.outcome]


def discard(name: str | None, *, yes: bool, ask: Callable[[Forest, Migration], None]) -> str:
    """Remove the old store that is kept of the forest, once who is here agreed; what came of it.

    *ask* raises where nobody agrees.

    Raises:
        RefusedError: its streams are on their way, and the store may be needed.
    """
    with leaves(NOTHING):
        found = meant(name)
        forest, nothing = found.forest, f"{found.forest.name} has no old store: there is nothing to discard."
        if not is_discardable(forest, found.registry.now(), asked=True):
            return nothing
        if not yes and (migration := old_store(forest)):
            ask(forest, migration)
    return f"The old store of {forest.name} is gone." if removed(forest.name, asked=True) else nothing


def removed(name: str, *, asked: bool) -> bool:
    """Have the old store of the forest removed; whether there was one that may go."""
    from morpheus.cli import running  # noqa: PLC0415  # only who acts starts Prefect

    return running.discard(name, asked=asked)


def expand(checked: Checkup, nodes: int, *, auto: bool) -> "Grown":
    """Let the forest grow to so many *nodes*, if it still is as it was when it was checked."""
    from morpheus.cli import running  # noqa: PLC0415  # only who grows starts Prefect

    forest = checked.forest
    return running.grow(
        forest.name, nodes, seen=len(forest.staying), expanded=forest.last_expansion, auto=auto
    )
