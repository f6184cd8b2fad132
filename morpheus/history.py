"""The history of a forest: its readings, in a document beside the registry, ``readings/<forest>``.

Checks of any device write there, by compare-and-set: who comes second reads again and adds its own. It holds
at most some hundred readings, older ones further apart. Nothing depends on it but trends and whether a load
has lasted, so a history that is lost, broken or out of reach stops nobody: it begins anew, or is left alone.
``Forest.run`` tells one planting from another: what an earlier forest of the same name left counts for none.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from morpheus.errors import MorpheusError, RegistryConflictError, TransientError
from morpheus.forest import Forest, check_name
from morpheus.registry import READINGS, Snapshot, Store
from morpheus.registry.care import Place
from morpheus.trend import Kind, Point

log = logging.getLogger("morpheus.history")

T = TypeVar("T")

VERSION = 1
MOST = 500  # readings
TIMEOUT = 10.0  # seconds of losing against other writers before a reading is given up
PAUSE = 0.05  # seconds between two tries
_NUMBERS = ("connections", "rate_in", "rate_out")
_FIELDS = ("at", "nodes", *_NUMBERS, *Kind)


class History:
    """The readings of one planting of a forest.

    Args:
        place: where the registry stands, and the documents beside it.
        forest: as it is recorded.
    """

    def __init__(self, place: Place, forest: Forest) -> None:
        self._place, self._forest = place, forest

    def read(self) -> tuple[Point, ...]:
        """The readings, oldest first; none where they cannot be read."""
        try:
            return self._known(self._store().read())
        except MorpheusError as error:
            log.warning("the readings of %s cannot be read: %s", self._forest.name, error)
            return ()

    def add(self, point: Point) -> bool:
        """Add *point*; whether it stands there now."""
        try:
            return _patiently(lambda: self._added(point))
        except MorpheusError as error:
            log.warning("a reading of %s was not kept: %s", self._forest.name, error)
            return False

    def delete(self) -> None:
        """Remove the document, where there is one; what a device that slept writes later counts for nobody.

        Raises:
            MorpheusError: it cannot be removed.
        """

        def deleted() -> None:
            store = self._store()
            there = store.read()
            if there.version is not None:
                store.remove(there.version)

        _patiently(deleted)

    def _store(self) -> Store:
        return self._place(f"{READINGS}/{check_name(self._forest.name)}")

    def _added(self, point: Point) -> bool:
        store = self._store()
        there = store.read()
        if _is_newer(there.text):
            log.info("the readings of %s are those of a newer Morpheus, and stay as they are", store.url)
            return False
        points = {each.at: each for each in (*self._known(there), point)}
        text = render(self._forest, thinned(sorted(points.values(), key=lambda each: each.at)))
        store.write(text, there.version, backup=False)
        return True

    def _known(self, there: Snapshot) -> tuple[Point, ...]:
        if there.text is None:
            return ()
        try:
            return parse(there.text, self._forest)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            log.warning(
                "the readings of %s begin anew: what stands there cannot be read (%s)",
                *(self._forest.name, type(error).__name__),
            )
            return ()


def _patiently(call: Callable[[], T]) -> T:
    """What *call* returns, begun anew for a while after a lost race or a lost answer."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return call()
        except (RegistryConflictError, TransientError):
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE)


def thinned(points: Sequence[Point]) -> Sequence[Point]:
    """*points*, oldest first, or so many of them that there is room again: of the older half every second."""
    if len(points) <= MOST:
        return points
    older = len(points) // 2
    return thinned([*points[:older:2], *points[older:]])


def render(forest: Forest, points: Iterable[Point]) -> str:
    """The document."""
    head = {"version": VERSION, "forest": forest.name, "planting": forest.run or "", "fields": _FIELDS}
    return json.dumps({**head, "readings": [_row(each) for each in points]}) + "\n"


def parse(text: str, forest: Forest) -> tuple[Point, ...]:
    """The readings in *text*, oldest first; none where they are of another planting.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, OverflowError: it is no such document.
    """
    raw = json.loads(text)
    if raw["version"] != VERSION or raw["planting"] != (forest.run or ""):
        return ()
    rows = (dict(zip(raw["fields"], row, strict=True)) for row in raw["readings"])
    return tuple(sorted((_point(row) for row in rows), key=lambda each: each.at))


def _row(point: Point) -> list[float | None]:
    numbers = (getattr(point, name) for name in _NUMBERS)
    values = [point.nodes, *numbers, *(point.worst.get(kind) for kind in Kind)]
    rounded = [None if each is None else round(each, 1) for each in values]
    return [round(point.at.timestamp(), 1), *rounded]


def _point(row: Mapping[str, Any]) -> Point:
    known = {kind: float(row[kind]) for kind in Kind if row.get(kind) is not None}
    at = datetime.fromtimestamp(float(row["at"]), UTC)
    return Point(at, int(row["nodes"]), known, **{name: row.get(name) for name in _NUMBERS})


def _is_newer(text: str | None) -> bool:
    try:
        version = json.loads(text or "{}").get("version", VERSION)
        return bool(version > VERSION)
    except (ValueError, AttributeError, TypeError):
        return False
