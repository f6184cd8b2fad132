"""A check of one forest: measured, judged, and its reading kept; the same for commands and for flows."""

import logging
from dataclasses import dataclass, replace

from morpheus import site, vitals
from morpheus.cloud import Cloud
from morpheus.errors import ForestBusyError, ForestNotFoundError, MorpheusError
from morpheus.forest import Forest, Price, Status
from morpheus.growth import Facts, Outcome, Policy, Verdict, judge, point
from morpheus.health import Health
from morpheus.history import History
from morpheus.migration import is_discardable
from morpheus.registry.lease import check_free
from morpheus.settings import Settings
from morpheus.site import Found
from morpheus.trend import Point

log = logging.getLogger("morpheus.checkup")

AT_ONCE = 10  # forests; each asks some servers at once, and a program may have but so many connections


@dataclass(frozen=True, slots=True)
class Checkup:
    """A forest that was checked: how it was seen, what is known of it, and what follows by the *policy*."""

    health: Health
    facts: Facts
    policy: Policy
    verdict: Verdict
    registry: str

    @property
    def forest(self) -> Forest:
        return self.facts.forest

    @property
    def unfinished(self) -> bool:
        """Whether an expansion was begun, and nobody is at it any more."""
        if self.forest.status != Status.GROWING:
            return False
        try:
            check_free(self.forest, self.facts.now)
        except ForestBusyError:
            return False
        return True

    @property
    def target(self) -> int | None:
        """How many nodes the forest is to have, if nobody is asked; None where it is left as it is."""
        count = len(self.forest.staying)
        if self.unfinished:
            return count
        return count + self.verdict.wanted if self.verdict.wanted else None

    @property
    def wished(self) -> int | None:
        """How many nodes it is to have if a person says yes, who may more than nobody."""
        suggested = self.verdict.suggested if self.verdict.a_person_may else 0
        return self.target or (len(self.forest.staying) + suggested if suggested else None)

    @property
    def discards(self) -> bool:
        """Whether it stands, and keeps an old store whose time is over."""
        stands = self.forest.status == Status.ACTIVE and self.health.formation.formed
        return stands and is_discardable(self.forest, self.facts.now, asked=False)

    @property
    def reading(self) -> Point:
        """What the history gets of it."""
        return point(self.facts)


def check(  # noqa: PLR0913  # each one is a fact of the check
    settings: Settings,
    found: Found,
    cloud: Cloud,
    *,
    unread: str = "",
    policy: Policy | None = None,
    keep: bool,
    window: float | None = None,
) -> Checkup:
    """Measure the forest over *window* seconds, judge it, and *keep* the reading.

    Args:
        settings: of this user; the policy is theirs unless another one is given.
        found: the forest, and the registry that records it.
        cloud: where its machines are, entered; or as it is, where *unread* says why they cannot be entered.
        unread: why nobody gets onto its machines; empty when somebody does.
        policy: when it grows.
        keep: write the reading into the history.
        window: in seconds; that of the vitals unless another one is given.

    Raises:
        ForestNotFoundError: it was torn down meanwhile.
    """
    policy = policy or Policy.of(settings)
    measured = vitals.measure(found.forest, cloud, found.registry_id, unread=unread, window=window)
    now, recorded = found.registry.now(), found.registry.read().forests
    if found.forest.name not in recorded:
        raise ForestNotFoundError(f"{found.forest.name} was torn down while it was checked.")
    forest = recorded[found.forest.name]
    history = History(site.place_of(settings, forest), forest)
    facts = Facts(
        forest,
        measured.vitals,
        now,
        fault=measured.fault,
        unread=unread,
        history=history.read(),
        recorded=recorded,
    )
    verdict = judge(facts, policy)
    if verdict.suggested:  # before that nobody needs to know what a node costs
        facts = replace(facts, price=_price(cloud))
        verdict = judge(facts, policy)
    checked = Checkup(measured.health, facts, policy, verdict, found.registry.url)
    if keep and checked.reading.worst and verdict.outcome is not Outcome.UNHEALTHY:
        history.add(checked.reading)
    return checked


def _price(cloud: Cloud) -> Price | None:
    """What a new node costs at most; None where nobody can say."""
    try:
        return cloud.price()
    except MorpheusError as error:
        log.warning("what a node costs is not known: %s", error)
        return None
