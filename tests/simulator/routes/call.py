"""A request on its way through a route, and what all routes say alike."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from tests.simulator import catalogue
from tests.simulator.errors import invalid, not_found, taken
from tests.simulator.labels import check_labels, selects
from tests.simulator.state import Json, Named
from tests.simulator.world import World

Thing = TypeVar("Thing", bound=Named)
Item = TypeVar("Item")
Reply = tuple[int, Json | None]

MOST_PER_PAGE = 50


@dataclass
class Call:
    """``path`` and ``query`` hold text; ``body`` is empty when none was sent."""

    world: World
    operation: str
    path: dict[str, str]
    query: dict[str, list[str]]
    body: Json

    def first(self, name: str) -> str | None:
        return next(iter(self.query.get(name, [])), None)


Handler = Callable[[Call], Reply]


def find_by_id(things: Mapping[int, Item], given: str | int, what: str) -> Item:
    """Return the thing with an id; 404 without one."""
    if str(given).isdigit() and (found := things.get(int(given))) is not None:
        return found
    raise not_found(what, given)


def named(things: Mapping[int, Thing], given: str | int) -> Thing | None:
    """Return the thing with an id or a name."""
    for each in things.values():
        if given in (each.id, str(each.id), each.name):
            return each
    return None


def check_free(things: Mapping[int, Thing], name: str, what: str, *, but: int | None = None) -> None:
    """Raise 409 uniqueness_error when another thing has the name."""
    if any(each.name == name and each.id != but for each in things.values()):
        raise taken(f"{what} name is already used")


def location_of(given: str | int) -> catalogue.Location:
    for each in catalogue.LOCATIONS.values():
        if given in (each.id, str(each.id), each.name):
            return each
    raise invalid(f"location '{given}' not found", "location")


def update(call: Call, things: Mapping[int, Thing], thing: Thing, what: str) -> None:
    """Take over name and labels of a PUT; labels replace all there were."""
    check_labels(call.body.get("labels"))
    if (name := call.body.get("name")) is not None:
        check_free(things, name, what, but=thing.id)
        thing.name = name
    if (labels := call.body.get("labels")) is not None:
        thing.labels = dict(labels)


def listed(
    call: Call,
    key: str,
    things: Iterable[Item],
    view: Callable[[Item], Json],
    *,
    most: int = MOST_PER_PAGE,
    **filters: Callable[[Item], object],
) -> Reply:
    """Answer a list: filtered, sorted, one page of it.

    ``name`` and ``label_selector`` are understood for all; *filters* say what other parameters are
    compared to.
    """
    found = list(things)
    filters.setdefault("name", lambda thing: getattr(thing, "name", None))
    for parameter, value_of in filters.items():
        if wanted := call.query.get(parameter):
            values = {value for each in wanted for value in each.split(",")}
            found = [each for each in found if str(value_of(each)) in values]
    if selector := call.first("label_selector"):
        chosen = selects(selector)
        found = [each for each in found if chosen(getattr(each, "labels", {}))]
    for order in reversed(call.query.get("sort", [])):
        field, _, direction = order.partition(":")
        found.sort(key=lambda thing: getattr(thing, field, 0), reverse=direction == "desc")
    page, per_page = _number(call, "page", 1), _number(call, "per_page", 25)
    if not 1 <= per_page <= most:
        raise invalid(f"per_page must be between 1 and {most}", "per_page")
    shown = found[(page - 1) * per_page : page * per_page]
    meta = {"pagination": _pagination(page, per_page, len(found))}
    return 200, {key: [view(each) for each in shown], "meta": meta}


def _number(call: Call, name: str, otherwise: int) -> int:
    given = call.first(name) or str(otherwise)
    if not given.isdigit() or int(given) < 1:
        raise invalid(f"{name} must be a positive number", name)
    return int(given)


def _pagination(page: int, per_page: int, total: int) -> Json:
    last = max(1, math.ceil(total / per_page))
    return {
        "page": page,
        "per_page": per_page,
        "previous_page": page - 1 if page > 1 else None,
        "next_page": page + 1 if page < last else None,
        "last_page": last,
        "total_entries": total,
    }


def text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")


def price(net: Decimal) -> Json:
    """Net and gross as the texts of decimals the API sends."""
    gross = net * (1 + catalogue.VAT / 100)
    return {"net": f"{net:.10f}", "gross": f"{gross:.10f}"}


def allowed(settings: Json, *names: str) -> dict[str, bool]:
    """Return access settings: what was not asked for is off."""
    return {name: bool(settings.get(name)) for name in names}
