"""Measurements of servers: series of pairs of a time and a number as text, and nothing of memory."""

import math
from datetime import datetime, timedelta

from tests.simulator.errors import invalid
from tests.simulator.routes.call import Call, Handler, Reply, text
from tests.simulator.routes.servers import server_of
from tests.simulator.state import ServerState
from tests.simulator.world import World

MOST_SAMPLES, SAMPLES = 500, 200
METRICS_LAG = timedelta(minutes=1)
SERIES = {
    "cpu": ("cpu",),
    "disk": ("disk.0.iops.read", "disk.0.iops.write", "disk.0.bandwidth.read", "disk.0.bandwidth.write"),
    "network": ("network.0.pps.in", "network.0.pps.out", "network.0.bandwidth.in", "network.0.bandwidth.out"),
}


def metrics(call: Call) -> Reply:
    """Series that end a minute ago."""
    server = server_of(call)
    begin, end = _moment(call, "start"), _moment(call, "end")
    if end <= begin:
        raise invalid("end must be after start", "end")
    seconds = (end - begin).total_seconds()
    step = max(1, int(call.first("step") or math.ceil(seconds / SAMPLES)))
    if seconds / step > MOST_SAMPLES:
        raise invalid(f"at most {MOST_SAMPLES} samples", "step")
    kinds = {kind for each in call.query["type"] for kind in each.split(",")}
    series = {
        name: {"values": _values(call.world, server, begin, end, step)}
        for kind in sorted(kinds)
        for name in SERIES[kind]
    }
    return 200, {"metrics": {"start": text(begin), "end": text(end), "step": step, "time_series": series}}


def _moment(call: Call, name: str) -> datetime:
    try:
        return datetime.fromisoformat(call.query[name][0])
    except (KeyError, ValueError):
        raise invalid(f"{name} must be an ISO 8601 time", name) from None


def _values(
    world: World, server: ServerState, begin: datetime, end: datetime, step: int
) -> list[list[object]]:
    """Samples while it runs: the first is NaN, and every seventeenth is missing."""
    if server.started is None:
        return []
    last = min(end, world.now() - METRICS_LAG)
    values: list[list[object]] = []
    moment = max(begin, server.started)
    while moment <= last:
        number = int(moment.timestamp()) // step
        if number % 17:
            values.append([moment.timestamp(), f"{5 + number % 7}.25" if values else "NaN"])
        moment += timedelta(seconds=step)
    return values


ROUTES: dict[str, Handler] = {"GET /servers/{id}/metrics": metrics}
