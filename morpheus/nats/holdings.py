"""What streams and their consumers hold, as numbers that can be compared before and after a move."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from nats.aio.client import Client

from morpheus.errors import RefusedError
from morpheus.nats.admin import LIST_TIMEOUT, api
from morpheus.nats.streams import current_copies


@dataclass(frozen=True, slots=True)
class Extent:
    """What a stream holds: messages, bytes, the first and last sequence, how many between are deleted."""

    messages: int
    bytes: int
    first: int
    last: int
    deleted: int
    subjects: int

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Extent":
        """Read the ``state`` of a stream as the server tells it."""
        names = ("messages", "bytes", "first_seq", "last_seq", "num_deleted", "num_subjects")
        read = cls(*(int(state.get(name) or 0) for name in names))
        return read if read.first else replace(read, first=1)  # before anything was written both are told


@dataclass(frozen=True, slots=True)
class Position:
    """How far a consumer came: what it was given and what was acknowledged, and what is left.

    ``delivered`` and ``acknowledged`` are sequences of the stream, ``deliveries`` counts every delivery.
    ``pending`` is not read where a consumer began with the last message per subject: a server that took it
    over gives it all that is left, but tells too small a number.
    """

    delivered: int
    deliveries: int
    acknowledged: int
    unacknowledged: int
    redelivered: int
    pending: int

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> "Position":
        """Read a consumer's info as the server tells it."""
        counted = info.get("config", {}).get("deliver_policy") != "last_per_subject"
        return cls(
            delivered=info["delivered"]["stream_seq"],
            deliveries=info["delivered"]["consumer_seq"],
            acknowledged=info["ack_floor"]["stream_seq"],
            unacknowledged=info["num_ack_pending"],
            redelivered=info["num_redelivered"],
            pending=info["num_pending"] if counted else 0,
        )


@dataclass(frozen=True, slots=True)
class Span:
    """The position of a consumer before and after its stream was copied.

    A server goes on giving messages to those that listen, also where nobody may publish or acknowledge.
    """

    before: Position
    after: Position

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> "Span":
        """Read one that :meth:`text` wrote."""
        return cls(Position(**written["before"]), Position(**written["after"]))

    def text(self) -> Mapping[str, Any]:
        """As JSON holds it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Held:
    """What a server tells of one stream: its extent, its durable consumers, its current copies."""

    extent: Extent
    consumers: Mapping[str, Position]
    copies: int = 1


async def streams(client: Client) -> tuple[Mapping[str, Any], ...]:
    """All streams of the account, as the server tells them, page by page.

    Raises:
        RefusedError: of some it knows no more than that they are there.
    """
    found: list[Mapping[str, Any]] = []
    while True:
        page = await api(client, "$JS.API.STREAM.LIST", {"offset": len(found)}, timeout=LIST_TIMEOUT)
        if silent := [*(page.get("missing") or []), *(page.get("offline") or {})]:
            raise RefusedError(
                f"The streams {', '.join(sorted(silent))} give no answer, so they cannot be moved: nothing "
                "was changed. Look at the server's log, and heal them first."
            )
        listed = page.get("streams") or []
        found += listed
        if not listed or len(found) >= page.get("total", 0):
            return tuple(found)


def movable(streams: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The names of *streams* in an order in which they can be restored: a mirror after what it mirrors.

    Raises:
        RefusedError: some cannot. A stream with sources does not know in a new cluster how far it came, and
            takes all of their messages a second time; so might a mirror of what is elsewhere or is consumed.
            What is bound to servers by a placement finds none of those it names.
    """
    configs = {each["config"]["name"]: each["config"] for each in streams}
    if bound := sorted(name for name, config in configs.items() if config.get("placement")):
        raise RefusedError(
            f"The streams {', '.join(bound)} have a placement, which names none of the new servers: "
            "nothing was changed. Take it out of their configuration, then grow."
        )
    order: list[str] = []
    left = sorted(configs)
    while ready := [name for name in left if _is_fed_by(configs[name], order, configs)]:
        order += ready
        left = [name for name in left if name not in ready]
    if left:
        raise RefusedError(
            f"The streams {', '.join(left)} are fed by other streams (they have sources, or mirror what is "
            "elsewhere or a work queue), and in a new cluster they would take messages a second time: "
            "nothing was changed. Plant a forest of three beside this one, and move there."
        )
    return tuple(order)


def _is_fed_by(config: Mapping[str, Any], order: Sequence[str], configs: Mapping[str, Any]) -> bool:
    """Whether programs alone feed a stream, or one of those in *order* that keeps its messages."""
    mirror = config.get("mirror")
    if config.get("sources") or not mirror:
        return not config.get("sources")
    kept = mirror["name"] in order and configs[mirror["name"]]["retention"] == "limits"
    return kept and not mirror.get("external")


async def held(client: Client, stream: str) -> Held:
    """What is known of *stream* now.

    Raises:
        ApiError, UnreachableError: nothing is.
    """
    info = await api(client, f"$JS.API.STREAM.INFO.{stream}", timeout=LIST_TIMEOUT)
    extent, copies = Extent.of(info["state"]), current_copies(info.get("cluster"))
    return Held(extent, await positions(client, stream), copies)


async def positions(client: Client, stream: str) -> Mapping[str, Position]:
    """The positions of the durable consumers of *stream*, page by page; programs make the others anew."""
    seen = 0
    found: dict[str, Position] = {}
    while True:
        page = await api(client, f"$JS.API.CONSUMER.LIST.{stream}", {"offset": seen}, timeout=LIST_TIMEOUT)
        listed = page.get("consumers") or []
        seen += len(listed)
        found |= {each["name"]: Position.of(each) for each in listed if each["config"].get("durable_name")}
        if not listed or seen >= page.get("total", 0):
            return found


def ages(config: Mapping[str, Any]) -> bool:
    """Whether messages of a stream go, or come, by themselves as time passes."""
    return bool(config.get("max_age") or config.get("allow_msg_ttl") or writes_itself(config))


def writes_itself(config: Mapping[str, Any]) -> bool:
    """Whether the server writes into a stream: what is scheduled there, or that messages have expired.

    What it writes behind a fence the new servers write as well, for they know of it.
    """
    return bool(config.get("allow_msg_schedules") or config.get("subject_delete_marker_ttl"))


def differences(
    extent: Extent, spans: Mapping[str, Span], found: Held, later: Held | None = None
) -> Iterator[str]:
    """In what *found* is not the stream that had *extent*, with consumers within *spans*.

    Of a stream that :func:`ages`, *later* is what the original has become, a moment after *found* was seen:
    then what is found lies between the two. (How many are deleted in between says nothing of such a one.)
    """
    for name in (each.name for each in fields(Extent) if not (later and each.name == "deleted")):
        ends = [getattr(each, name) for each in (extent, later and later.extent) if each]
        yield from _outside(name, getattr(found.extent, name), ends)
    for consumer, span in spans.items():
        position = found.consumers.get(consumer)
        if position is None:
            yield f"no consumer {consumer}"
            continue
        known = (span.before, span.after, later and later.consumers.get(consumer))
        for name in (each.name for each in fields(Position)):
            ends = [getattr(each, name) for each in known if each]
            yield from _outside(f"{name} of {consumer}", getattr(position, name), ends)


def _outside(what: str, now: int, ends: Sequence[int]) -> Iterator[str]:
    if not min(ends) <= now <= max(ends):
        yield f"{what} {now} instead of {ends[-1]}"
