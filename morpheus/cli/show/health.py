"""A forest as it is now."""

import contextlib
import json as jsonlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from morpheus.cli.show.forests import forest_fields, healing, node_fields, old_store, ports
from morpheus.cli.show.text import UNKNOWN, as_json, cost, lines, me, table
from morpheus.forest import Status

if TYPE_CHECKING:
    from morpheus.health import Health, NodeHealth
    from morpheus.nats.cluster import Formation


def health(health: "Health", registry: str, *, json: bool) -> None:
    """One forest as it is now."""
    if json:
        as_json(_health(health, registry))
    else:
        print(health_screen(health, registry))


def watched(looks: Iterable["Health"], registry: str, *, json: bool) -> "Health":
    """Show one look after the other until Ctrl-C, and return the last.

    On a terminal each takes the place of the one before; elsewhere they follow each other, JSON one a line.
    """
    seen = None
    with contextlib.suppress(KeyboardInterrupt), screen(json=json) as draw:
        for seen in looks:
            if json:
                print(jsonlib.dumps(_health(seen, registry)), flush=True)
            else:
                draw(health_screen(seen, registry))
    if seen is None:
        raise KeyboardInterrupt
    return seen


@contextlib.contextmanager
def screen(*, json: bool) -> Iterator[Callable[[str], None]]:
    """What draws a screen: over the one before on a terminal, below it elsewhere."""
    if json or not sys.stdout.isatty():
        yield lambda text: print(text, flush=True)
        return
    from rich.live import Live  # noqa: PLC0415  # only for this
    from rich.text import Text  # noqa: PLC0415  # only for this

    with Live(auto_refresh=False) as live:
        yield lambda text: live.update(Text(text, no_wrap=True), refresh=True)


def _health(health: "Health", registry: str) -> dict[str, Any]:
    formation = health.formation
    return {
        **forest_fields(health.forest),
        "registry": registry,
        "formed": formation.formed if formation.known else None,
        "reason": formation.reason,
        "unread": health.unread or None,
        "leader": formation.leader or None,
        "current": formation.current,
        "expected": len(formation.states),
        "nodes": [_node_health(each) for each in health.nodes],
    }


def _node_health(each: "NodeHealth") -> dict[str, Any]:
    reading, known = each.reading, each.reading.known
    return {
        **node_fields(each.node),
        "pid": each.pid,
        "workload_pid": each.workload_pid,
        "state": each.state,
        "version": reading.version or None,
        "cpu_percent": round(each.cpu, 1) if each.cpu is not None else None,
        "memory_bytes": each.memory,
        "connections": reading.connections if known else None,
        "storage_bytes": reading.storage if known else None,
        "max_storage_bytes": reading.max_storage if known else None,
        "messages_in": reading.messages_in if known else None,
        "messages_out": reading.messages_out if known else None,
        "slow_consumers": reading.slow_consumers if known else None,
    }


def health_screen(health: "Health", registry: str) -> str:
    """One forest as a screen."""
    forest, formation = health.forest, health.formation
    above = [f"🌲 Forest: {forest.name} ({forest.status})"]
    if forest.status == Status.DELETING:
        above.append(f"It is being torn down. To finish: {me()} teardown {forest.name}")
    elif health.unread:
        above += [f"Machines: {formation.reason}", f"Not read: {health.unread}"]
    else:
        above.append(f"Cluster: {_verdict(formation)}: {formation.reason}")
    if not formation.formed and formation.known and forest.status != Status.DELETING:
        above.append(healing(forest))
    leaving = [node.label for node in forest.nodes if node.leaving]
    if leaving:
        above.append(f"On their way out: {', '.join(leaving)}")
    headings = ("NODE", "IP", "PORTS", "PID", "STATE", "CPU", "MEM", "CONNS")
    rows = (_health_row(each, formation.leader) for each in health.nodes)
    names = [f"{each.node.label} is found at {each.node.dns}" for each in health.nodes if each.node.dns]
    below = [*names, *old_store(forest), *cost(forest.price), f"Registry: {registry}"]
    return lines(*above, *table(headings, *rows), *below)


def _verdict(formation: "Formation") -> str:
    if not formation.known:
        return UNKNOWN
    return "formed" if formation.formed else "NOT FORMED"


def _health_row(each: "NodeHealth", leader: str) -> tuple[str, ...]:
    return (
        each.node.label,
        each.node.ip or UNKNOWN,
        ports(each.node),
        str(each.pid or UNKNOWN),
        each.state + (" (leader)" if leader == each.node.name else ""),
        f"{each.cpu:.0f}%" if each.cpu is not None else UNKNOWN,
        f"{each.memory / 2**20:.0f} MiB" if each.memory is not None else UNKNOWN,
        str(each.reading.connections) if each.reading.known else UNKNOWN,
    )
