"""What commands print: tables and sentences for people, JSON for scripts (docs/output.md)."""

import contextlib
import json as jsonlib
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from morpheus.errors import InvalidInputError
from morpheus.forest import Forest, Node, Price

if TYPE_CHECKING:
    from flows.plant import Planted
    from morpheus.cli.checking import Answer
    from morpheus.cli.configuring import Changed, Entry, Places
    from morpheus.cli.server import Up
    from morpheus.plan import Step
    from morpheus.registry.care import Kept, Report
    from morpheus.registry.document import Document
    from morpheus.site import Found
    from morpheus.watch import Health, NodeHealth

UNKNOWN = "-"


def printable(text: str) -> str:
    """*text* in one line, with what could steer the terminal or has no form on it as an escape."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _lines(*lines: str) -> str:
    """One line of each; anybody may have written the names and words in them."""
    return "\n".join(map(printable, lines))


def _print(*lines: str) -> None:
    print(_lines(*lines))


def _me() -> str:
    """How this command is called from here: by its name when that finds it, else by its path."""
    mine = Path(sys.argv[0])
    found = shutil.which("morpheus")
    if mine.name != "morpheus" or (found and Path(found).samefile(mine)):
        return "morpheus"
    with contextlib.suppress(ValueError):
        return str(mine.absolute().relative_to(Path.cwd()))
    return str(mine)


def _json(value: Any) -> None:
    print(jsonlib.dumps(value, indent=2))


def _table(*rows: Sequence[str]) -> list[str]:
    """*rows* in columns, the headings first; to import rich would take a fifth of a fast command's time."""
    cells = [[printable(word) for word in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in cells)
    return ["", *(f"  {line.rstrip()}" for line in lines), ""]


def _time(time: datetime | None) -> str | None:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z") if time else None


def _node(node: Node) -> dict[str, Any]:
    ports = node.ports
    return {
        "name": node.name,
        "status": node.status,
        "ip": node.ip,
        "ports": {"client": ports.client, "cluster": ports.cluster, "monitor": ports.monitor},
    }


def _forest(forest: Forest) -> dict[str, Any]:
    lease = forest.lease
    return {
        "name": forest.name,
        "provider": forest.provider,
        "location": forest.location or None,
        "size": forest.size,
        "status": forest.status,
        "created_at": _time(forest.created_at),
        "registry": forest.registry_url or None,
        "held_by": f"{lease.holder}, {lease.operation}" if lease else None,
        "price": _price(forest.price),
        "nodes": [_node(node) for node in forest.nodes],
    }


def _price(price: Price) -> dict[str, float] | None:
    """In EUR, VAT included; None where nothing is paid."""
    return {"hourly": float(price.hourly), "monthly": float(price.monthly)} if price.monthly else None


def _cost(price: Price, what: str = "Costs") -> list[str]:
    """A line about money where some is paid."""
    return [f"{what}: {price}, VAT included"] if price.monthly else []


def forests(
    found: Sequence["Found"], registries: Sequence[str], faults: Sequence[Exception] = (), *, json: bool
) -> None:
    """Every forest, the registries that were asked, and the *faults* of those that could not be read."""
    if json:
        known = [_forest(each.forest) for each in found]
        _json({"forests": known, "registries": list(registries), "faults": list(map(str, faults))})
        return
    rows: list[tuple[str, ...]] = [
        ("FOREST", "PROVIDER", "SIZE", "NODES", "STATUS", "CREATED (UTC)", "EUR/MONTH")
    ]
    for each in found:
        forest = each.forest
        created = f"{forest.created_at:%Y-%m-%d %H:%M}" if forest.created_at else ""
        price = f"{forest.price.monthly:.2f}" if forest.price.monthly else ""
        nodes = str(len(forest.nodes))
        words = (forest.name, forest.provider, forest.size, nodes, forest.status, created, price)
        rows.append(tuple(word or UNKNOWN for word in words))
    if not any(each.forest.price.monthly for each in found):
        rows = [row[:-1] for row in rows]
    nothing = f"No forests yet. Plant one on this machine: {_me()} plant local"
    total = sum((each.forest.price for each in found), Price())
    _print(
        *(_table(*rows) if found else [nothing]),
        *_cost(total, "All together cost"),
        *(f"Registry: {url}" for url in registries),
    )


def health(health: "Health", registry: str, *, json: bool) -> None:
    """One forest as it is now."""
    if json:
        _json(_health(health, registry))
    else:
        print(health_screen(health, registry))


def watched(looks: Iterable["Health"], registry: str, *, json: bool) -> "Health":
    """Show one look after the other until Ctrl-C, and return the last.

    On a terminal each takes the place of the one before; elsewhere they follow each other, JSON one a line.
    """
    seen = None
    with contextlib.suppress(KeyboardInterrupt), _screen(json=json) as draw:
        for seen in looks:
            if json:
                print(jsonlib.dumps(_health(seen, registry)), flush=True)
            else:
                draw(health_screen(seen, registry))
    if seen is None:
        raise KeyboardInterrupt
    return seen


@contextlib.contextmanager
def _screen(*, json: bool) -> Iterator[Callable[[str], None]]:
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
        **_forest(health.forest),
        "registry": registry,
        "formed": formation.formed,
        "reason": formation.reason,
        "leader": formation.leader or None,
        "current": formation.current,
        "expected": len(formation.states),
        "nodes": [_node_health(each) for each in health.nodes],
    }


def _node_health(each: "NodeHealth") -> dict[str, Any]:
    reading, known = each.reading, each.reading.reachable
    return {
        **_node(each.node),
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
    verdict = "formed" if formation.formed else "NOT FORMED"
    lines = [f"🌲 Forest: {forest.name} ({forest.status})", f"Cluster: {verdict}: {formation.reason}"]
    if not formation.formed:
        lines.append(f"To heal it: {_me()} plant {_where(forest)} --name {forest.name}")
    leaving = [node.label for node in forest.nodes if node.leaving]
    if leaving:
        lines.append(f"On their way out: {', '.join(leaving)}")
    headings = ("NODE", "IP", "PORTS", "PID", "STATE", "CPU", "MEM", "CONNS")
    rows = (_health_row(each, formation.leader) for each in health.nodes)
    return _lines(*lines, *_table(headings, *rows), *_cost(forest.price), f"Registry: {registry}")


def _health_row(each: "NodeHealth", leader: str) -> tuple[str, ...]:
    return (
        each.node.label,
        each.node.ip or UNKNOWN,
        _ports(each.node),
        str(each.pid or UNKNOWN),
        each.state + (" (leader)" if leader == each.node.name else ""),
        f"{each.cpu:.0f}%" if each.cpu is not None else UNKNOWN,
        f"{each.memory / 2**20:.0f} MiB" if each.memory is not None else UNKNOWN,
        str(each.reading.connections) if each.reading.reachable else UNKNOWN,
    )


def _ports(node: Node) -> str:
    return f"{node.ports.client} {node.ports.cluster} {node.ports.monitor}"


def _where(forest: Forest) -> str:
    return "local" if forest.provider == "local" else "cloud"


def steps(forest: Forest, steps: Sequence["Step"], *, json: bool) -> None:
    """What a run would do."""
    if json:
        todo = [{"verb": step.verb.value, "subject": step.subject} for step in steps]
        price = _price(forest.price)
        _json({"forest": forest.name, "nodes": len(forest.staying), "steps": todo, "price": price})
        return
    _print(
        f"Planting {forest.name} with {len(forest.staying)} node(s) would:",
        *(f"  {each}" for each in steps),
        *_cost(forest.price, "It would cost at most"),
    )


def planted(result: "Planted", *, json: bool) -> None:
    """A forest that is ready, and what to do with it."""
    forest = result.forest
    if json:
        lost = list(result.lost_streams)
        _json({**_forest(forest), "seconds": round(result.seconds, 2), "lost_streams": lost})
        return
    headings = ("NODE", "IP", "PORTS", "STATUS")
    rows = ((node.label, node.ip or UNKNOWN, _ports(node), node.status) for node in forest.staying)
    lost_lines = [
        f"Lost before this run, with its only copy: the stream {name}" for name in result.lost_streams
    ]
    _print(
        f"🌲 {forest.name} stands: {len(forest.staying)} node(s), ready after {result.seconds:.1f} s.",
        *_table(headings, *rows),
        *lost_lines,
        *_cost(forest.price),
        f"Registry:      {forest.registry_url}",
        f"Look closer:   {_me()} status {forest.name}",
        f"Use it:        {_me()} connect {forest.name}",
        f"Take it down:  {_me()} teardown {forest.name}",
    )


def connection(context: str, path: Path, environment: Mapping[str, str], *, json: bool) -> None:
    """How to reach a forest: the environment on stdout, ready for eval; the rest beside it."""
    if json:
        _json({"context": context, "file": str(path), "environment": dict(environment)})
        return
    for key, value in environment.items():
        _print(f"export {key}={shlex.quote(value)}")
    what = "server list" if "NATS_NKEY" in environment else "stream ls"
    print(f"# The nats command knows it too: nats --context {context} {what}", file=sys.stderr)


def ask_for_name(name: str, nodes: int) -> None:
    """Have the name typed before something is lost for good.

    Raises:
        InvalidInputError: it was not typed, or nobody is there to type.
    """
    if not sys.stdin.isatty():
        raise InvalidInputError(f"Nobody is here to confirm it: morpheus teardown {name} --yes")
    try:
        typed = input(f"This removes {name} with its {nodes} node(s) and all their data. Type its name: ")
    except EOFError:
        typed = ""
    if typed.strip() != name:
        raise InvalidInputError(f"That was not {name}: nothing was changed.")


def torn_down(name: str, machines: Sequence[str], *, json: bool) -> None:
    if json:
        _json({"name": name, "removed": list(machines)})
        return
    _print(f"{name} is gone, with {len(machines)} node(s) and their data.")


def server(up: "Up", *, json: bool) -> None:
    """Where Prefect runs now."""
    if json:
        _json(
            {"ui": up.ui, "api": up.api, "auth_file": str(up.auth_file), "deployments": list(up.deployments)}
        )
        return
    _print(
        f"Prefect runs at {up.ui}; log in with the line in {up.auth_file}",
        f"Deployments: {', '.join(up.deployments)}",
        f"Stop it: {_me()} down",
    )


def stopped(*, was_running: bool, json: bool) -> None:
    if json:
        _json({"stopped": was_running})
        return
    _print("Prefect is stopped; forests stay as they are." if was_running else "Nothing was running.")


def versions(found: Mapping[str, str], *, json: bool) -> None:
    if json:
        _json(dict(found))
        return
    _print(*(f"{name} {version}" for name, version in found.items()))


def sentence(text: str, *, json: bool) -> None:
    """What was done."""
    if json:
        _json({"done": text})
    else:
        _print(text)


def document(text: str) -> None:
    """The registry as it stands; on a terminal nothing in it can steer that."""
    lines = text.splitlines()
    print("\n".join(map(printable, lines)) if sys.stdout.isatty() else text.rstrip("\n"))


def report(found: "Report", *, json: bool) -> None:
    """What a check of the registry found."""
    if json:
        _json({**asdict(found), "faults": list(found.faults)})
        return
    counts = f"{found.forests} forest(s), {found.nodes} node(s), revision {found.revision}"
    fine = "There is no registry here yet; the first plant makes it." if found.empty else "All is well."
    verdict = [f"FAULT: {each}" for each in found.faults] or [fine]
    _print(f"Registry: {found.url}", f"{counts}, {found.backups} backup(s)", *verdict)


def backups(kept: Sequence["Kept"], *, json: bool) -> None:
    """The backups of the registry."""
    if json:
        _json({"backups": [_backup(each) for each in kept]})
        return
    if not kept:
        print("There are no backups yet.")
        return
    rows = [
        (
            str(each.number),
            str(each.document.revision) if each.document else "cannot be read",
            (_time(each.document.updated_at) if each.document else None) or UNKNOWN,
            ", ".join(each.document.forests) if each.document else UNKNOWN,
            each.where,
        )
        for each in kept
    ]
    print(_lines(*_table(("NUMBER", "REVISION", "WRITTEN (UTC)", "FORESTS", "WHERE"), *rows)))


def _backup(each: "Kept") -> dict[str, Any]:
    kept = each.document
    return {
        "number": each.number,
        "where": each.where,
        "revision": kept.revision if kept else None,
        "updated_at": _time(kept.updated_at) if kept else None,
        "forests": list(kept.forests) if kept else None,
    }


def replaced(url: str, restored: "Document", *, json: bool) -> None:
    """The registry after something took its place."""
    if json:
        _json({"registry": url, "revision": restored.revision, "forests": list(restored.forests)})
    else:
        names = ", ".join(restored.forests) or "no forests"
        _print(f"{url} is revision {restored.revision} now, with {names}.")


def moved(old: str, new: str, document: "Document", *, json: bool) -> None:
    """Where the registry is from now on."""
    if json:
        _json({"from": old, "to": new, "forests": list(document.forests)})
        return
    _print(
        f"The registry stands at {new} now, with {len(document.forests)} forest(s).",
        f"{old} is sealed and names it. Set registry.type and registry.url in morpheus.yaml on every device.",
    )


def places(found: "Places", *, json: bool) -> None:
    """Where settings, data and cache are."""
    if json:
        _json({key: value if key == "exists" else str(value) for key, value in asdict(found).items()})
        return
    note = "" if found.exists else "  (not there yet: every setting has its default)"
    _print(f"settings  {found.config}{note}", f"data      {found.data}", f"cache     {found.cache}")


def _setting(entry: "Entry") -> dict[str, Any]:
    return {"key": entry.key, "value": entry.shown(), "source": entry.source}


def _value(value: Any) -> str:
    return value if isinstance(value, str) else jsonlib.dumps(value)


def settings(entries: Sequence["Entry"], *, json: bool) -> None:
    """Every setting, and who gave its value."""
    if json:
        _json({"settings": [_setting(each) for each in entries]})
        return
    rows = ((each.key, _value(each.shown()), each.source) for each in entries)
    print(_lines(*_table(("KEY", "VALUE", "FROM"), *rows)))


def setting(entry: "Entry", *, reveal: bool, json: bool) -> None:
    """One setting."""
    value = entry.value if reveal else entry.shown()
    if json:
        _json(_setting(entry) | {"value": value})
    else:
        _print(_value(value))


def changed(result: "Changed", *, json: bool) -> None:
    """What the settings are now."""
    if json:
        _json({"file": str(result.path), "settings": [_setting(each) for each in result.entries]})
        return
    for each in result.entries:
        wins = " here: the environment wins over the file" if each.source == "environment" else ""
        _print(f"{each.key} is {_value(each.shown())}{wins}.")
    _print(f"Settings: {result.path}")


def answers(given: Sequence["Answer"], *, json: bool) -> None:
    """What a check found, a line each."""
    if json:
        found = [{"part": each.part, "ok": not each.exit_code, "says": each.says} for each in given]
        _json({"ok": all(each["ok"] for each in found), "answers": found})
        return
    _print(*(f"{'FAIL' if each.exit_code else 'ok':4}  {each.part:8}  {each.says}" for each in given))
