"""The registry's document: JSON text <-> values, losing nothing that others wrote.

Field names, types and what other programs read out of them: docs/registry.md. What we read but do not
change keeps its original spelling (times with nine digits, nulls, unknown fields), because rendering
starts from the object that was read and touches only the fields whose value differs.
"""

import copy
import hashlib
import ipaddress
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from morpheus.errors import RegistryBrokenError, RegistryNewerError
from morpheus.forest import MAX_NUMBER, Forest, Lease, Migration, Node, Status

VERSION = 1
REMEMBERED_WRITES = 50
MAX_DEPTH = 100  # of objects and lists in each other
MAX_COUNT = 2**53  # the whole numbers that every JSON program keeps exact are smaller
Raw = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Document:
    """Everything the registry knows.

    ``revision`` only grows; ``epochs`` survive teardown; ``moved_to`` is the address of the registry that
    took this one's place.
    """

    forests: Mapping[str, Forest] = field(default_factory=dict)
    registry_id: str | None = None
    revision: int = 0
    epochs: Mapping[str, int] = field(default_factory=dict)
    writes: tuple[str, ...] = ()
    updated_at: datetime | None = None
    moved_to: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def with_forest(self, forest: Forest) -> "Document":
        return replace(self, forests={**self.forests, forest.name: forest})

    def without_forest(self, name: str) -> "Document":
        return replace(self, forests={key: value for key, value in self.forests.items() if key != name})

    def bare(self) -> "Document":
        """This document without leases and bookkeeping: what a backup is kept for."""
        forests = {name: replace(forest, lease=None) for name, forest in self.forests.items()}
        return Document(forests=forests, registry_id=self.registry_id)


class _Codec(NamedTuple):
    """How one JSON value becomes ours (raising ValueError or TypeError) and the other way."""

    decode: Callable[[Any], Any]
    encode: Callable[[Any], Any]


def _expect(kind: type, value: Any) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"expected {kind.__name__}, found {type(value).__name__}")
    return value


def decode_time(text: Any) -> datetime | None:
    """Read an RFC 3339 time with any offset and up to nine digits; year 1 means never, so None."""
    if text in (None, ""):
        return None
    time = datetime.fromisoformat(_expect(str, text).upper())
    if time.year == 1:
        return None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def encode_time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _decode_strings(value: Any) -> Mapping[str, str]:
    return {key: _expect(str, text) for key, text in _expect(dict, value or {}).items()}


def _whole(value: Any, most: int) -> int:
    if _expect(int, value) > most:
        raise ValueError(f"it is larger than {most}")
    return int(value)


def _decode_numbers(value: Any) -> tuple[int, ...]:
    return tuple(_whole(number, MAX_NUMBER) for number in _expect(list, value or []))


def _decode_words(value: Any) -> tuple[str, ...]:
    return tuple(_expect(str, word) for word in _expect(list, value or []))


def _decode_lease(value: Any) -> Lease | None:
    if value is None:
        return None
    raw = _expect(dict, value)
    started, expires = decode_time(raw.get("started")), decode_time(raw.get("expires"))
    if started is None or expires is None:
        return None  # without its times it holds nothing
    words = {key: _expect(str, raw.get(key) or "") for key in ("operation", "run", "holder")}
    return Lease(**words, started=started, expires=expires, process=_expect(dict, raw.get("process") or {}))


def _encode_lease(lease: Lease) -> Raw:
    return {
        "operation": lease.operation,
        "run": lease.run,
        "holder": lease.holder,
        "started": encode_time(lease.started),
        "expires": encode_time(lease.expires),
        **({"process": dict(lease.process)} if lease.process else {}),
    }


def _decode_migration(value: Any) -> Migration | None:
    """How far a move has come; one that cannot be read is no reason to begin another."""
    if value is None:
        return None
    raw = _expect(dict, value)
    words = {key: _expect(str, raw.get(key)) for key in ("phase", "run", "node", "store")}
    if (began := decode_time(raw.get("began"))) is None:
        raise ValueError("began is no time")
    size, kept_until = _whole(raw.get("size") or 0, MAX_COUNT), decode_time(raw.get("kept_until"))
    return Migration(**words, began=began, size=size, kept_until=kept_until)


def _encode_migration(migration: Migration) -> Raw:
    return {
        **{key: getattr(migration, key) for key in ("phase", "run", "node", "store")},
        "began": encode_time(migration.began),
        "size": migration.size,
        **({"kept_until": encode_time(migration.kept_until)} if migration.kept_until else {}),
    }


def encode_ip(ip: str) -> str:
    """The bare address in RFC 5952 form, as other programs compare it."""
    return ipaddress.ip_address(ip).compressed


_TEXT = _Codec(lambda value: _expect(str, "" if value is None else value), str)
_WORD = _Codec(lambda value: None if value is None else _expect(str, value), str)
_TIME = _Codec(decode_time, encode_time)
_FOREST = {
    "provider": _TEXT,
    "location": _TEXT,
    "size": _TEXT,
    "status": _TEXT,
    "created_at": _TIME,
    "registry_url": _TEXT,
    "last_expansion": _TIME,
    "run": _WORD,
    "used_numbers": _Codec(_decode_numbers, list),
    "lost_streams": _Codec(_decode_words, list),
    "migration": _Codec(_decode_migration, _encode_migration),
    "lease": _Codec(_decode_lease, _encode_lease),
}
_NODE = {
    "ip": _Codec(lambda value: _expect(str, value) if value else None, encode_ip),
    "role": _TEXT,
    "status": _TEXT,
    "created_at": _TIME,
    "run": _WORD,
    "metadata": _Codec(_decode_strings, dict),
}
_TOP = {
    "registry_id": _WORD,
    "revision": _Codec(lambda value: _whole(value or 0, MAX_COUNT), int),
    "epochs": _Codec(
        lambda value: {key: _whole(n, MAX_COUNT) for key, n in _expect(dict, value or {}).items()}, dict
    ),
    "writes": _Codec(_decode_words, list),
    "moved_to": _WORD,
    "updated_at": _TIME,
}

# What an object without any field of ours reads as.
_ABSENT = Document()
_ABSENT_FOREST = Forest("", status=Status.ACTIVE)
_ABSENT_NODE = Node("", status=Status.ACTIVE)


def _decode(raw: Any, codecs: Mapping[str, _Codec], where: str) -> dict[str, Any]:
    """The fields of *raw* that are there, by our names."""
    if not isinstance(raw, dict):
        raise RegistryBrokenError(f"{where} is not an object")
    values = {}
    for key, codec in codecs.items():
        if key in raw:
            try:
                values[key] = codec.decode(raw[key])
            except (TypeError, ValueError, OverflowError) as error:
                raise RegistryBrokenError(f"{where}.{key} cannot be read: {error}") from error
    return values


def _encode(raw: Mapping[str, Any], value: Any, codecs: Mapping[str, _Codec], absent: Any) -> Raw:
    """*raw* with the fields of *value* that differ; absent rather than null or empty.

    A field that is not in *raw* was read as that of *absent*; an empty *raw* was never read: all is written.
    """
    result = copy.deepcopy(dict(raw))
    for key, codec in codecs.items():
        ours = getattr(value, key)
        was = codec.decode(raw[key]) if key in raw else getattr(absent, key)
        if raw and was == ours:
            continue
        if ours is None or (hasattr(ours, "__len__") and not ours):
            result.pop(key, None)
        else:
            result[key] = codec.encode(ours)
    return result


def parse(text: str) -> Document:
    """Read a document.

    Raises:
        RegistryNewerError: *text* is a document of a format that is newer than ours.
        RegistryBrokenError: *text* is no such document; says what is wrong, not yet where to go from here.
    """
    if not text.strip():
        raise RegistryBrokenError("it is empty")
    try:
        raw = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise RegistryBrokenError(f"it is not JSON ({error})") from error
    _check_depth(raw)
    if isinstance(raw, dict):
        _check_version(raw.get("version"))
    if not isinstance(raw, dict) or not ({"forests", "nodes"} & raw.keys()):
        raise RegistryBrokenError("it has neither forests nor nodes")
    raw_forests, raw_nodes = raw.get("forests") or {}, raw.get("nodes") or {}
    for where, part in (("forests", raw_forests), ("nodes", raw_nodes)):
        if not isinstance(part, dict):
            raise RegistryBrokenError(f"{where} is not an object")
    names = dict.fromkeys([*raw_forests, *(name for name, listed in raw_nodes.items() if listed)])
    forests = {name: _parse_forest(name, raw_forests.get(name), raw_nodes.get(name)) for name in names}
    return replace(_ABSENT, forests=forests, extra=raw, **_decode(raw, _TOP, "the document"))


def _finite(text: str) -> float:
    """A number that can be written again: 1e999 is JSON, but the infinity it reads as is none."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number that can be kept")
    return number


def _check_depth(value: Any) -> None:
    """Refuse what lies in each other so deep that copying and writing it would fail."""
    level = [value]
    for _ in range(MAX_DEPTH):
        nested = [each for each in level if isinstance(each, dict | list)]
        if not nested:
            return
        level = [each for outer in nested for each in (outer.values() if isinstance(outer, dict) else outer)]
    raise RegistryBrokenError(f"its objects and lists lie more than {MAX_DEPTH} deep in each other")


def _check_version(version: Any) -> None:
    """Refuse formats that are not ours; a document without a version is of the first one."""
    if version in (None, VERSION) and version is not True:
        return
    if isinstance(version, int) and version > VERSION:
        raise RegistryNewerError(f"its format is version {version}, and this Morpheus reads {VERSION}")
    raise RegistryBrokenError(f"its version is {json.dumps(version)[:20]}, not {VERSION}")


def _parse_forest(name: str, raw: Raw | None, listed: Any) -> Forest:
    raw = {"id": name} if raw in (None, {}) else raw  # never empty: empty is what was never read
    fields = _decode(raw, _FOREST, f"forests.{name}")
    nodes = []
    for where, part in (
        ("nodes", listed),
        ("reserved", raw.get("reserved")),
        ("removed", raw.get("removed")),
    ):
        if not isinstance(part, list | None):
            raise RegistryBrokenError(f"{where} of {name} is not a list")
        nodes += [_parse_node(each, f"{where}.{name}[{i}]") for i, each in enumerate(part or [])]
    if len({node.name for node in nodes}) < len(nodes):
        raise RegistryBrokenError(f"{name} lists a node twice")
    return replace(_ABSENT_FOREST, name=name, nodes=tuple(nodes), extra=raw, **fields)


def _parse_node(raw: Any, where: str) -> Node:
    fields = _decode(raw, _NODE, where)
    if not raw.get("id") or not isinstance(raw["id"], str):
        raise RegistryBrokenError(f"{where} has no id")
    return replace(_ABSENT_NODE, name=raw["id"], extra=raw, **fields)


def render(document: Document) -> str:
    """Write *document* as text; ``parse(render(d)) == d``."""
    raw = _encode(document.extra, document, _TOP, _ABSENT)
    raw["version"] = VERSION
    raw["forests"] = {name: _render_forest(forest) for name, forest in document.forests.items()}
    listed = {name: list(_render_nodes(forest, _is_listed)) for name, forest in document.forests.items()}
    had = document.extra.get("nodes") or {}
    raw["nodes"] = {name: nodes for name, nodes in listed.items() if nodes or name in had}
    raw["digest"] = digest(raw)
    return json.dumps(raw, indent=2) + "\n"


def _render_forest(forest: Forest) -> Raw:
    raw = _encode(forest.extra, forest, _FOREST, _ABSENT_FOREST)
    raw.setdefault("id", forest.name)
    for key, belongs in (("reserved", _is_reserved), ("removed", _is_removed)):
        nodes = list(_render_nodes(forest, belongs))
        if nodes:
            raw[key] = nodes
        else:
            raw.pop(key, None)
    return raw


def _is_listed(node: Node) -> bool:
    """Other programs make a route of every entry of ``nodes``: only what has an address and stays."""
    return bool(node.ip) and not node.leaving


def _is_removed(node: Node) -> bool:
    return node.leaving


def _is_reserved(node: Node) -> bool:
    return not node.ip and not node.leaving


def _render_nodes(forest: Forest, belongs: Callable[[Node], bool]) -> Iterator[Raw]:
    for node in forest.nodes:
        if belongs(node):
            raw = _encode(node.extra, node, _NODE, _ABSENT_NODE)
            yield {"id": node.name, "forest_id": forest.name, **raw}


def digest(raw: Mapping[str, Any]) -> str:
    """A fingerprint of forests and nodes, by which a change by another program shows."""
    content = json.dumps([raw.get("forests"), raw.get("nodes")], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def is_ours(document: Document) -> bool:
    """Whether the document is as one of us wrote it."""
    return document.extra.get("digest") == digest(document.extra)
