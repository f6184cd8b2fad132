"""Forests as the registry has them, and what runs did to them."""

import shlex
import sys
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from morpheus import host
from morpheus import migration as migration_
from morpheus.cli.show.text import UNKNOWN, as_json, confirm, cost, lines, me, moment, money, say, table
from morpheus.forest import Forest, Migration, Node, Price, size_warning

if TYPE_CHECKING:
    from flows.plant import Planted
    from morpheus.census import Census
    from morpheus.cli.connecting import Connection
    from morpheus.cli.running import Doomed
    from morpheus.cloud import Server
    from morpheus.plan import Step
    from morpheus.site import Found


def node_fields(node: Node) -> dict[str, Any]:
    ports = node.ports
    return {
        "name": node.name,
        "status": node.status,
        "ip": node.ip,
        "dns": node.dns,
        "ports": {"client": ports.client, "cluster": ports.cluster, "monitor": ports.monitor},
        "location": node.metadata.get("location"),
        "type": node.metadata.get("server_type"),
        "price": money(Price.of(node.metadata)),
    }


def forest_fields(forest: Forest) -> dict[str, Any]:
    lease = forest.lease
    return {
        "name": forest.name,
        "provider": forest.provider,
        "location": forest.location or None,
        "size": forest.size,
        "status": forest.status,
        "created_at": moment(forest.created_at),
        "registry": forest.registry_url or None,
        "held_by": f"{lease.holder}, {lease.operation}" if lease else None,
        "price": money(forest.price),
        "old_store": old_store_fields(forest),
        "nodes": [node_fields(node) for node in forest.nodes],
    }


def forests(  # noqa: PLR0913  # all that is known
    found: Sequence["Found"],
    registries: Sequence[str],
    faults: Sequence[Exception] = (),
    census: "Census | None" = None,
    *,
    can_plant: str = "local",
    json: bool,
) -> None:
    """Every forest, the registries that were asked, and the *faults* of those that could not be read.

    *census* is what the cloud has of the forests; None where there is none to ask. *can_plant* is where the
    first forest is to be planted, ``local`` or ``cloud``.
    """
    if json:
        known = [{**forest_fields(each.forest), "cloud": _presence(each.forest, census)} for each in found]
        as_json(
            {
                "forests": known,
                "registries": list(registries),
                "faults": list(map(str, faults)),
                "unrecorded": [_unrecorded(each) for each in census.unrecorded] if census else [],
                "cloud_fault": (census.fault or None) if census else None,
            }
        )
        return
    headings = ["FOREST", "PROVIDER", "SIZE", "NODES", "STATUS", "CREATED (UTC)"]
    paid = any(each.forest.price.monthly for each in found)
    headings += [*(["CLOUD"] if census else []), *(["EUR/MONTH"] if paid else [])]
    rows = []
    for each in found:
        forest = each.forest
        created = f"{forest.created_at:%Y-%m-%d %H:%M}" if forest.created_at else ""
        words = [forest.name, forest.provider, forest.size, str(len(forest.nodes)), forest.status, created]
        if census:
            words.append(str(census.presences.get(forest.name, "")))
        if paid:
            words.append(f"{forest.price.monthly:.2f}" if forest.price.monthly else "")
        rows.append([word or UNKNOWN for word in words])
    place = "in the cloud" if can_plant == "cloud" else "on this machine"
    nothing = f"No forests yet. Plant one {place}: {me()} plant {can_plant}"
    total = sum((each.forest.price for each in found), Price())
    say(
        *(table(headings, *rows) if found else [nothing]),
        *(_warnings(census, {each.forest.name for each in found}) if census else []),
        *cost(total, "The forests cost"),
        *(f"Registry: {url}" for url in registries),
    )


def _warnings(census: "Census", forests: Collection[str]) -> list[str]:
    """What the cloud did not tell, and what it has that nobody recorded."""
    if census.fault:
        return [f"What the cloud has is not known: {census.fault}"]
    told = []
    for server in census.unrecorded:
        forest = server.labels.get("forest-id", "")
        costs = Price.of(server.metadata)
        paid = f" and costs {costs}" if costs.monthly else ""
        remedy = (
            f"it goes with its forest {forest}, or in the Cloud Console"
            if forest in forests
            else f"remove it with {me()} teardown {forest}"
        )
        told.append(
            f"Unrecorded: {server.name} ({server.ip or UNKNOWN}, {server.status}) is ours{paid}: {remedy}"
        )
    return told


def _presence(forest: Forest, census: "Census | None") -> dict[str, Any] | None:
    known = census.presences.get(forest.name) if census else None
    if known is None:
        return None
    return {"servers": known.servers, "running": known.running, "unrecorded": list(known.unrecorded)}


def _unrecorded(server: "Server") -> dict[str, Any]:
    return {
        "name": server.name,
        "forest": server.labels.get("forest-id"),
        "ip": server.ip or None,
        "status": server.status,
        "price": money(Price.of(server.metadata)),
    }


def steps(forest: Forest, steps: Sequence["Step"], *, json: bool) -> None:
    """What a run would do."""
    if json:
        todo = [{"verb": step.verb.value, "subject": step.subject} for step in steps]
        price = money(forest.price)
        as_json({"forest": forest.name, "nodes": len(forest.staying), "steps": todo, "price": price})
        return
    say(
        f"Planting {forest.name} with {len(forest.staying)} node(s) would:",
        *(f"  {each}" for each in steps),
        *cost(forest.price, "It would cost at most"),
    )


def planted(result: "Planted", *, json: bool) -> None:
    """A forest that is ready, and what to do with it."""
    forest = result.forest
    if json:
        lost = list(result.lost_streams)
        phases = {phase: round(seconds, 2) for phase, seconds in result.phases.items()}
        told = {"seconds": round(result.seconds, 2), "lost_streams": lost, "phases": phases}
        as_json({**forest_fields(forest), **told})
        return
    local = forest.provider == "local"
    headings = ("NODE", "IP", *(["PORTS"] if local else []), "STATUS")
    rows = (
        (node.label, node.ip or UNKNOWN, *([ports(node)] if local else []), node.status)
        for node in forest.staying
    )
    names = [f"{node.label} is found at {node.dns}" for node in forest.staying if node.dns]
    lost_lines = [
        f"Lost before this run, with its only copy: the stream {name}" for name in result.lost_streams
    ]
    say(
        f"🌲 {forest.name} stands: {len(forest.staying)} node(s), ready after {result.seconds:.1f} s.",
        *table(headings, *rows),
        *names,
        *lost_lines,
        *cost(forest.price),
        f"Registry:      {forest.registry_url}",
        f"Look closer:   {me()} status {forest.name}",
        f"Use it:        {me()} connect {forest.name}",
        *([] if local else [f"Log in:        {me()} ssh {forest.name} {forest.staying[0].label}"]),
        f"What it says:  {me()} logs {forest.name}",
        f"Take it down:  {me()} teardown {forest.name}",
    )


def connection(connection: "Connection", *, json: bool) -> None:
    """How to reach a forest: the environment on stdout, ready for eval; the rest beside it."""
    context, environment = connection.context, connection.environment
    if json:
        as_json(
            {
                "context": context,
                "file": str(connection.file),
                "environment": dict(environment),
                "tunnel": connection.tunnelled,
                "unreachable": dict(connection.away),
                "brought": connection.brought,
            }
        )
        sys.stdout.flush()  # who reads it goes on while the tunnel stands
        return
    for key, value in environment.items():
        say(f"export {key}={shlex.quote(value)}")
    sys.stdout.flush()
    what = "server list" if "NATS_NKEY" in environment else "stream ls"
    beside = [f"# The nats command knows it too: nats --context {context} {what}"]
    if connection.brought:
        beside += [
            "# The workload brings these servers: who may enter them, and with what, it decides alone."
        ]
    if connection.tunnelled:
        beside += [
            *(f"# Left out: {reason}" for reason in connection.away.values()),
            "# These addresses lead through SSH, for as long as this command runs; Ctrl-C ends it.",
        ]
    print(lines(*beside), file=sys.stderr)


def doomed(doomed: "Doomed", *, json: bool) -> None:
    """What a teardown would remove."""
    if json:
        holdings, price = list(doomed.holdings), money(doomed.price)
        as_json({"name": doomed.name, "nodes": doomed.nodes, "holdings": holdings, "price": price})
        return
    say(*_doomed(doomed))


def _doomed(doomed: "Doomed") -> list[str]:
    above = f"Tearing {doomed.name} down removes its {doomed.nodes} node(s) and all their data:"
    there = [f"  {each}" for each in doomed.holdings] or ["  nothing but its record is left"]
    return [above, *there, *cost(doomed.price, "Until now it costs")]


def ask_for_name(doomed: "Doomed") -> None:
    """Show what would be lost for good, and have its name typed before.

    Raises:
        InvalidInputError: it was not typed, or nobody is there to type.
    """
    again = f"{me()} teardown {doomed.name} --yes"
    confirm(_doomed(doomed), "Type its name to remove all of it: ", (doomed.name,), again)


def ask_for_node(forest: Forest, node: Node) -> None:
    """Show what leaves, and have its name typed before.

    Raises:
        InvalidInputError: it was not typed, or nobody is there to type.
    """
    rest = len(forest.staying) - (not node.leaving)
    told = [
        f"{node.name} leaves {forest.name}, which goes on with {rest} node(s).",
        "Its streams move to the others, then its server and its disk are deleted.",
    ]
    if warning := size_warning(rest):
        told.append(warning)
    told += cost(node.price, "It costs")
    again = f"{me()} node remove {forest.name} {node.label} --yes"
    confirm(told, "Type its name to remove it: ", (node.label, node.name), again)


def removed(forest: Forest, node: Node, *, json: bool) -> None:
    """The *forest* that goes on without *node*."""
    if json:
        as_json({**forest_fields(forest), "removed": node.name})
        return
    say(
        f"{node.name} is gone, its streams moved before: {forest.name} goes on with "
        f"{len(forest.staying)} node(s).",
        *cost(forest.price),
        f"Look closer:   {me()} status {forest.name}",
    )


def torn_down(name: str, machines: Sequence[str], *, json: bool) -> None:
    if json:
        as_json({"name": name, "removed": list(machines)})
        return
    say(f"{name} is gone, with {len(machines)} node(s) and their data.")


def ask_for_old_store(forest: Forest, migration: Migration) -> None:
    """Show what goes for good, and have the name of the forest typed before.

    Raises:
        InvalidInputError: it was not typed, or nobody is there to type.
    """
    size, began = f"{migration.size / 2**20:.1f} MiB", f"{migration.began:%Y-%m-%d %H:%M} UTC"
    told = [
        f"The old store of {migration.node} goes: {size} of messages, as they were at {began}.",
        "The cluster and all it holds stay as they are.",
    ]
    again = f"{me()} grow {forest.name} --discard-old-store --yes"
    confirm(told, f"Type {forest.name} to remove it: ", (forest.name,), again)


def old_store(forest: Forest) -> list[str]:
    """A line about the old store of *forest*, where one is kept."""
    if not (migration := migration_.old_store(forest)):
        return []
    until = f" until {migration.kept_until:%Y-%m-%d %H:%M} UTC" if migration.kept_until else ""
    discard = f"{me()} grow {forest.name} --discard-old-store"
    return [f"Its old store is kept on {Node(migration.node).label}{until}; to remove it now: {discard}"]


def old_store_fields(forest: Forest) -> dict[str, Any] | None:
    """The same for scripts."""
    migration = migration_.old_store(forest)
    return {"node": migration.node, "kept_until": moment(migration.kept_until)} if migration else None


def ports(node: Node) -> str:
    return f"{node.ports.client} {node.ports.cluster} {node.ports.monitor}"


def healing(forest: Forest) -> str:
    """How to heal it, or how to finish what keeps it from being whole."""
    if forest.migration and forest.migration.phase != migration_.Phase.KEPT:
        lease, now = forest.lease, datetime.now(UTC)
        if lease and lease.expires > now and not host.has_ended(lease.process):
            since = f"since {lease.started:%H:%M:%S} UTC"
            return f"{lease.holder} is at it ({lease.operation}, {since}): wait for its end."
        return f"To finish its move into a cluster: {me()} grow {forest.name}"
    return f"To heal it: {me()} plant {where(forest)} --name {forest.name}"


def where(forest: Forest) -> str:
    return "local" if forest.provider == "local" else "cloud"
