"""One small function per operation, and one table of all of them.

A function takes a :class:`Call` and returns status and body, or raises ApiError. Templates are those of the
schema, so that a call can be checked against it.
"""

from tests.simulator.routes import (
    actions,
    firewalls,
    metrics,
    networks,
    orders,
    primary_ips,
    server_actions,
    servers,
    ssh_keys,
    storage_boxes,
    subaccounts,
    zones,
)
from tests.simulator.routes.call import Call, Handler, Reply

TABLE: dict[str, Handler] = {
    **actions.ROUTES,
    **firewalls.ROUTES,
    **metrics.ROUTES,
    **networks.ROUTES,
    **orders.ROUTES,
    **primary_ips.ROUTES,
    **server_actions.ROUTES,
    **servers.ROUTES,
    **ssh_keys.ROUTES,
    **storage_boxes.ROUTES,
    **subaccounts.ROUTES,
    **zones.ROUTES,
}

Parts = tuple[str, ...]


def _parts(path: str) -> Parts:
    return tuple(path.strip("/").split("/"))


_BY_LENGTH: dict[tuple[str, int], list[tuple[str, Parts]]] = {}
for _operation in TABLE:
    _method, _path = _operation.split(" ")
    _BY_LENGTH.setdefault((_method, len(_parts(_path))), []).append((_operation, _parts(_path)))


def find(method: str, path: str) -> tuple[str, dict[str, str]] | None:
    """Return the operation of a request and the parameters in its path; literal parts go first."""
    asked = _parts(path)
    fitting = [
        (operation, parts)
        for operation, parts in _BY_LENGTH.get((method, len(asked)), [])
        if all(part.startswith("{") or part == given for part, given in zip(parts, asked, strict=True))
    ]
    if not fitting:
        return None
    operation, parts = min(fitting, key=lambda each: [part.startswith("{") for part in each[1]])
    return operation, {
        part[1:-1]: given for part, given in zip(parts, asked, strict=True) if part.startswith("{")
    }


__all__ = ["TABLE", "Call", "Handler", "Reply", "find"]
