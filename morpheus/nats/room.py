"""Whether other servers can take what one gives away: what never works is refused before it begins; pure."""

from collections.abc import Mapping

from morpheus.errors import RefusedError
from morpheus.nats.monitor import Reading
from morpheus.nats.streams import Streams
from morpheus.sizes import told


def check(server: str, streams: Streams, rest: Mapping[str, Reading]) -> None:
    """Raise unless the copies on *server* may find a place on the *rest*.

    It asks for no more than is certain: where streams share the room badly, the servers find out.

    Raises:
        RefusedError: they never will.
    """
    there = streams.on(server)
    if many := [name for name in there if streams.replicas[name] > len(rest)]:
        raise RefusedError(
            f"{server} cannot leave: {_listed(many)} has more copies than the {len(rest)} other servers can "
            "take. Nothing was changed. Give it fewer replicas first."
        )
    if bound := [name for name in there if server in streams.tags.get(name, ())]:
        raise RefusedError(
            f"{server} cannot leave: {_listed(bound)} is bound to it by its placement tags. Nothing was "
            "changed. Update its placement first."
        )
    free = {name: _free(name, streams, reading) for name, reading in rest.items() if reading.known}
    if len(free) < len(rest):
        return  # nobody knows
    for name in there:
        places = [room for other, room in free.items() if other not in streams.servers[name]]
        _check_fits(f"the stream {name}", server, streams.sizes.get(name, 0), max(places, default=0))
    needed = sum(streams.sizes.get(name, 0) for name in there)
    _check_fits("what it holds", server, needed, sum(free.values()))


def _free(server: str, streams: Streams, reading: Reading) -> int:
    """The bytes that JetStream has left on *server*, beside what it promised."""
    promised = sum(streams.sizes.get(name, 0) for name in streams.on(server))
    return max(0, reading.max_storage - max(reading.storage, promised))


def _check_fits(what: str, server: str, needed: int, free: int) -> None:
    if needed > free:
        raise RefusedError(
            f"{server} cannot leave: {what} needs {told(needed)}, and the others have {told(free)} of "
            "JetStream storage left for it. Nothing was changed. Let the forest grow first, or delete some."
        )


def _listed(names: list[str]) -> str:
    return ("the stream " if len(names) == 1 else "each of the streams ") + ", ".join(names)
