"""What a check tells Prefect: the health of the nodes, the verdict with its history, and an event of it."""

import logging
from collections.abc import Callable, Iterator, Sequence

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.events import emit_event

from morpheus.bars import bar
from morpheus.checkup import Checkup
from morpheus.growth import Vitals
from morpheus.trend import Kind, Point

log = logging.getLogger("morpheus.grow")

EVENT = "morpheus.growth"  # and the outcome
SHOWN = 24  # readings in a table
UNKNOWN = "unknown"
_STEPS = "▁▂▃▄▅▆▇█"
_LINE = 60  # readings in a line


def publish(checked: Checkup) -> None:
    """Show the check in Prefect's UI; that it cannot be shown changes nothing about the forest."""
    name = checked.forest.name
    try:
        create_table_artifact(
            table=[row(each, checked) for each in checked.facts.vitals],
            key=f"health-{name}",
            description=f"**{name}**: {checked.verdict.sentence}",
        )
        create_markdown_artifact(key=f"growth-{name}", markdown=told(checked))
    except Exception as error:  # noqa: BLE001  # whatever Prefect raises, the verdict stands
        log.warning("%s: its artifacts could not be written: %s", name, error)


def announce(checked: Checkup) -> None:
    """Emit the event of the verdict, by which automations notify."""
    verdict, name = checked.verdict, checked.forest.name
    emit_event(
        f"{EVENT}.{verdict.outcome}",
        resource={"prefect.resource.id": f"morpheus.forest.{name}", "prefect.resource.name": name},
        payload={
            "sentence": verdict.sentence,
            "wanted": verdict.wanted,
            "suggested": verdict.suggested,
            "why": verdict.why,
            "breaches": [
                {"node": each.node, "kind": each.kind, "percent": each.value, "threshold": each.threshold}
                for each in verdict.breaches
            ],
        },
    )


def row(each: Vitals, checked: Checkup) -> dict[str, str]:
    """One node as a row of the table; what is not known is said to be unknown, never 0."""
    node = next((node for node in checked.forest.nodes if node.name == each.node), None)
    leader = checked.health.formation.leader == each.node
    return {
        "node": each.label,
        "address": f"{node.ip or '-'}:{node.ports.client}" if node else "-",
        "state": each.state + (" (leader)" if leader else ""),
        **{kind.word: bar(each.loads[kind]) if kind in each.loads else UNKNOWN for kind in Kind},
        "connections": UNKNOWN if each.connections is None else str(each.connections),
        "messages/s in": _rate(each.rate_in),
        "messages/s out": _rate(each.rate_out),
        "slow consumers": UNKNOWN if each.slow_consumers is None else str(each.slow_consumers),
    }


def told(checked: Checkup) -> str:
    """The verdict and the history as Markdown."""
    verdict, facts = checked.verdict, checked.facts
    points = [*facts.history, checked.reading]
    return "\n".join(
        [
            f"# {checked.forest.name}: {verdict.outcome}",
            verdict.sentence,
            "",
            *(f"- {each.sentence(facts.now)}" for each in verdict.forecasts),
            "",
            f"Readings of the worst node, oldest first; the newest {min(_LINE, len(points))} as lines:",
            "",
            *_lines(points),
            "",
            *_table(points[-SHOWN:]),
        ]
    )


def _lines(points: Sequence[Point]) -> Iterator[str]:
    """Each kind of load as a line of little bars."""
    yield "| load | course | now |"
    yield "| --- | --- | --- |"
    for kind in Kind:
        values = [each.worst.get(kind) for each in points[-_LINE:]]
        now = values[-1]
        yield f"| {kind.word} | {line(values)} | {UNKNOWN if now is None else bar(now)} |"


def line(values: Sequence[float | None]) -> str:
    """Percentages as a line of little bars; what is not known is a gap."""
    top = len(_STEPS) - 1
    return "".join("·" if each is None else _STEPS[min(top, int(each / 100 * top))] for each in values)


def _table(points: Sequence[Point]) -> Iterator[str]:
    """The newest readings, newest first."""
    columns: dict[str, Callable[[Point], str]] = {
        "time (UTC)": lambda each: f"{each.at:%Y-%m-%d %H:%M:%S}",
        "nodes": lambda each: str(each.nodes),
        **{kind.word: _worst(kind) for kind in Kind},
        "connections": lambda each: UNKNOWN if each.connections is None else str(each.connections),
        "messages/s in": lambda each: _rate(each.rate_in),
        "messages/s out": lambda each: _rate(each.rate_out),
    }
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for each in reversed(points):
        yield f"| {' | '.join(value(each) for value in columns.values())} |"


def _worst(kind: Kind) -> Callable[[Point], str]:
    return lambda each: f"{each.worst[kind]:.0f}%" if kind in each.worst else UNKNOWN


def _rate(rate: float | None) -> str:
    return UNKNOWN if rate is None else f"{rate:.0f}"
