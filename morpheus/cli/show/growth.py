"""A forest and whether it needs nodes: the screen for people, and JSON (docs/grow.md) for scripts."""

import contextlib
import json as jsonlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from morpheus.bars import bar
from morpheus.cli.show.forests import healing, old_store, old_store_fields
from morpheus.cli.show.health import screen
from morpheus.cli.show.text import UNKNOWN, cost, lines, moment, money, say, table
from morpheus.forest import Node, Price

if TYPE_CHECKING:
    from flows.grow import Grown
    from morpheus.checkup import Checkup
    from morpheus.growth import Vitals

BAR = 20  # characters
ABOVE = "!"  # marks what is above a threshold
THOUSAND = 1000


def growth(checked: "Checkup", price: "Price | None" = None, *, json: bool) -> None:
    """One check, and the *price* of the nodes that are wished for, for people.

    Scripts are told when it is known what came of it.
    """
    if not json:
        print(growth_screen(checked))
        for line in cost(price, "What is wished for costs at most") if price else []:
            say(line)


def grown(checked: "Checkup", done: "Grown | None", *, json: bool) -> None:
    """What came of a check: one line of JSON, or for people what was added."""
    if json:
        print(jsonlib.dumps(growth_fields(checked, done)), flush=True)
    elif done:
        names = ", ".join(Node(name).label for name in done.fresh)
        did = f"{names} added" if names else "what was left of a failed expansion was taken out"
        count = len(done.forest.staying)
        say(
            f"🌲 {done.forest.name} has {count} node(s): {did} in {done.seconds:.1f} s.",
            *cost(done.forest.price),
        )


def growth_watched(checks: Iterable["Checkup"], *, json: bool) -> "Checkup":
    """Show one check after the other until Ctrl-C, and return the last; see :func:`watched`."""
    seen = None
    with contextlib.suppress(KeyboardInterrupt), screen(json=json) as draw:
        for seen in checks:
            if json:
                print(jsonlib.dumps(growth_fields(seen)), flush=True)
            else:
                draw(growth_screen(seen))
    if seen is None:
        raise KeyboardInterrupt
    return seen


def growth_screen(checked: "Checkup") -> str:
    """One check as a screen."""
    from morpheus.trend import Kind  # noqa: PLC0415  # for a fast --help

    verdict, vitals = checked.verdict, checked.facts.vitals
    hot = {each.node for each in verdict.breaches}
    nodes = {node.name: node for node in checked.forest.nodes}
    return lines(
        f"🌲 Forest: {checked.forest.name}",
        f"Nodes: {_healthy(vitals)}/{len(vitals)} healthy",
        f"Connections: {amount(_sum(each.connections for each in vitals))} active",
        _messages(vitals),
        "",
        _average("CPU", Kind.CPU, checked),
        _average("Memory", Kind.MEMORY, checked),
        *table(
            ("NODE", "IP", "CPU", "MEM", "CONNS", ""),
            *(_row(each, nodes.get(each.node), above=each.node in hot) for each in vitals),
        ),
        *(each.sentence for each in verdict.breaches),
        *(f"Slow consumers become more on {each.label}" for each in vitals if each.slow_consumers_growing),
        *(each.sentence(checked.facts.now) for each in verdict.forecasts),
        *old_store(checked.forest),
        *_suggestion(checked),
    )


def _suggestion(checked: "Checkup") -> Sequence[str]:
    """What follows, and what it would cost."""
    verdict, forest = checked.verdict, checked.forest
    heal = [healing(forest)] if verdict.outcome == "unhealthy" and forest.status != "growing" else []
    if not verdict.suggested:
        return (verdict.sentence, *heal)
    price = cost(verdict.price) if verdict.price else []
    but = [f"But {each.words}" for each in verdict.obstacles]
    return (f"Suggestion: Add {verdict.suggested} node(s)", *price, *but)


def _healthy(vitals: Sequence["Vitals"]) -> str:
    """How many nodes are well; of a forest that nobody could look into that is not known."""
    if vitals and all(each.reachable is None for each in vitals):
        return UNKNOWN
    return str(sum(each.is_well for each in vitals))


def _messages(vitals: Sequence["Vitals"]) -> str:
    both = [
        f"{amount(_sum(getattr(each, f'messages_{way}') for each in vitals))} {way}" for way in ("in", "out")
    ]
    rates = [_sum(getattr(each, f"rate_{way}") for each in vitals) for way in ("in", "out")]
    known = f" ({amount(rates[0])}/s in, {amount(rates[1])}/s out)" if None not in rates else ""
    return f"Messages: {', '.join(both)}{known}"


def _average(word: str, kind: Any, checked: "Checkup") -> str:
    """The average over the nodes that tell it, marked where one of them is above its threshold."""
    known = [each.loads[kind] for each in checked.facts.vitals if kind in each.loads]
    drawn = bar(sum(known) / len(known), BAR) if known else UNKNOWN
    above = any(each.kind == kind for each in checked.verdict.breaches)
    return f"{word:8}{drawn}{f'  {ABOVE}' if above else ''}"


def _row(each: "Vitals", node: "Node | None", *, above: bool) -> tuple[str, ...]:
    from morpheus.trend import Kind  # noqa: PLC0415  # for a fast --help

    return (
        each.label,
        (node.ip if node else None) or UNKNOWN,
        _percent(each.loads.get(Kind.CPU)),
        _percent(each.loads.get(Kind.MEMORY)),
        str(each.connections) if each.connections is not None else UNKNOWN,
        ABOVE if above else "",
    )


def _percent(value: float | None) -> str:
    return f"{value:.0f}%" if value is not None else UNKNOWN


def _sum(values: Iterable[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) if known else None


def amount(number: float | None) -> str:
    """A number as people say it: 45, 1.2K, 3.4M."""
    if number is None:
        return UNKNOWN
    for letter in ("", "K", "M", "G"):
        if round(number, 1 if letter else 0) < THOUSAND:
            break
        number /= THOUSAND
    else:
        letter = "T"
    return f"{number:.1f}{letter}" if letter else f"{number:.0f}"


def growth_fields(checked: "Checkup", done: "Grown | None" = None) -> dict[str, Any]:
    """One check, and what was *done*, as docs/grow.md describes it."""
    verdict, facts = checked.verdict, checked.facts
    nodes = {node.name: node for node in checked.forest.nodes}
    return {
        "forest": checked.forest.name,
        "registry": checked.registry,
        "checked_at": moment(facts.now),
        "outcome": verdict.outcome,
        "why": verdict.why,
        "sentence": verdict.sentence,
        "reasons": list(verdict.reasons),
        "obstacles": [{"why": each.why, "words": each.words} for each in verdict.obstacles],
        "wanted": verdict.wanted,
        "suggested": verdict.suggested,
        "price": money(verdict.price) if verdict.price else None,
        "breaches": [
            {
                "node": each.node,
                "kind": each.kind,
                "percent": round(each.value, 1),
                "threshold": each.threshold,
            }
            for each in verdict.breaches
        ],
        "forecasts": [
            {"kind": each.kind, "percent": each.level, "at": moment(each.at)} for each in verdict.forecasts
        ],
        "thresholds": {_key(kind): value for kind, value in checked.policy.thresholds.items()},
        "last_expansion": moment(checked.forest.last_expansion),
        "old_store": old_store_fields(checked.forest),
        "added": list(done.fresh) if done else [],
        "seconds": round(done.seconds, 2) if done else None,
        "nodes": [_fields(each, nodes.get(each.node)) for each in facts.vitals],
    }


def _key(kind: str) -> str:
    return f"{kind.replace('-', '_')}_percent"


def _fields(each: "Vitals", node: "Node | None") -> dict[str, Any]:
    from morpheus.trend import Kind  # noqa: PLC0415  # for a fast --help

    return {
        "name": each.node,
        "ip": node.ip if node else None,
        "state": each.state,
        "reachable": each.reachable,
        "lagging": each.lagging,
        **{_key(kind): _rounded(each.loads.get(kind)) for kind in Kind},
        "server_memory_bytes": each.server_memory,
        "connections": each.connections,
        "messages_in": each.messages_in,
        "messages_out": each.messages_out,
        "messages_in_per_second": _rounded(each.rate_in),
        "messages_out_per_second": _rounded(each.rate_out),
        "slow_consumers": each.slow_consumers,
        "slow_consumers_growing": each.slow_consumers_growing,
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 1)
