"""What other programs and versions wrote survives our own writing."""

import contextlib
import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morpheus.errors import RefusedError, RegistryBrokenError
from morpheus.forest import Forest, Node, Status
from morpheus.nats.config import limits_of
from morpheus.registry import Registry
from morpheus.registry.document import MAX_COUNT, is_ours, parse, render
from tests.fakes import MemoryStore
from tests.morpheus.documents import FOREIGN, NOON, differences, rendered


def test_what_we_do_not_change_comes_back_as_it_was() -> None:
    changed = differences(json.loads(FOREIGN), rendered(parse(FOREIGN)))

    assert changed == {"/digest"}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda oak: replace(oak, status=Status.GROWING), "/forests/oak/status"),
        (lambda oak: replace(oak, last_expansion=NOON), "/forests/oak/last_expansion"),
        (lambda oak: replace(oak, location="nbg1"), "/forests/oak/location"),
        (lambda oak: replace(oak, registry_url="https://x/r.json"), "/forests/oak/registry_url"),
        (lambda oak: replace(oak, run="r1"), "/forests/oak/run"),
        (lambda oak: replace(oak, used_numbers=(1, 2)), "/forests/oak/used_numbers"),
        (lambda oak: replace(oak, created_at=None), "/forests/oak/created_at"),
        (
            lambda oak: replace(oak, nodes=(replace(oak.nodes[0], role="leaf"), oak.nodes[1])),
            "/nodes/oak/0/role",
        ),
        (
            lambda oak: replace(oak, nodes=(oak.nodes[0], replace(oak.nodes[1], ip="2001:db8::3"))),
            "/nodes/oak/1/ip",
        ),
        (
            lambda oak: replace(oak, nodes=(oak.nodes[0], replace(oak.nodes[1], metadata={"k": "v"}))),
            "/nodes/oak/1/metadata",
        ),
    ],
)
def test_a_change_of_one_field_touches_only_that_field(change: Any, path: str) -> None:
    document = parse(FOREIGN)
    oak = document.forests["oak"]

    changed = differences(json.loads(FOREIGN), rendered(document.with_forest(change(oak))))

    assert changed == {path, "/digest"}


def test_an_update_of_a_foreign_document_adds_bookkeeping_and_changes_nothing_else() -> None:
    store = MemoryStore()
    store.put(FOREIGN)

    Registry(store).update(lambda document, _: document.with_forest(Forest("elm", size="small")))

    after = json.loads(store.read().text or "")
    assert differences(json.loads(FOREIGN), after) == {
        "/forests/elm", "/digest", "/registry_id", "/revision", "/updated_at", "/writes"
    }  # fmt: skip


OURS_AT_TOP = {
    "version",
    "updated_at",
    "forests",
    "nodes",
    "registry_id",
    "revision",
    "epochs",
    "writes",
    "digest",
}

OURS_IN_FORESTS = {
    "id", "provider", "location", "size", "status", "created_at", "registry_url", "last_expansion", "run",
    "used_numbers", "lease", "reserved", "removed",
}  # fmt: skip

OURS_IN_NODES = {"id", "forest_id", "ip", "role", "status", "created_at", "run", "metadata"}

any_text = st.text(st.characters(exclude_categories=()), max_size=8)  # halves of surrogate pairs, too

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)

texts = st.none() | any_text


@st.composite
def times(draw: st.DrawFn) -> str | None:
    """A time as RFC 3339 allows it: up to nine digits, any offset; or one that means never."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from([None, "", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00.5+14:00"]))
    day = draw(st.datetimes(datetime(2, 1, 3), datetime(9998, 12, 29)))  # noqa: DTZ001  # the offset is drawn
    digits = draw(st.text("0123456789", max_size=9))
    hours, minutes = draw(st.integers(0, 23)), draw(st.integers(0, 59))
    zone = draw(st.sampled_from(["Z", "z", f"+{hours:02}:{minutes:02}", f"-{hours:02}:{minutes:02}"]))
    clock = day.isoformat(timespec="seconds", sep=draw(st.sampled_from("Tt")))
    return f"{clock}{'.' if digits else ''}{digits}{zone}"


def with_unknown(
    known: st.SearchStrategy[dict[str, Any]], ours: set[str]
) -> st.SearchStrategy[dict[str, Any]]:
    keys = any_text.filter(lambda key: key not in ours)
    unknown = st.dictionaries(keys, json_values, max_size=3)
    return st.builds(lambda known, unknown: {**unknown, **known}, known, unknown)


nodes = with_unknown(
    st.fixed_dictionaries(
        {"ip": st.ip_addresses().map(str) | st.sampled_from(["2001:DB8::1", "::", "1.2.3.4"])},
        optional={
            "forest_id": any_text,
            "role": texts,
            "status": texts.filter(lambda status: status != Status.DELETING),
            "created_at": times(),
            "run": texts,
            "metadata": st.none() | st.dictionaries(any_text, any_text, max_size=3),
        },
    ),
    OURS_IN_NODES,
)

forests = with_unknown(
    st.fixed_dictionaries(
        {},
        optional={
            "id": any_text,
            **dict.fromkeys(("provider", "location", "size", "status", "registry_url", "run"), texts),
            "created_at": times(),
            "last_expansion": times(),
            "used_numbers": st.none() | st.lists(st.integers(1, 99), max_size=4),
            "lease": st.none(),
        },
    ),
    OURS_IN_FORESTS,
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(any_text, max_size=3, unique=True))
    listed = {name: draw(st.lists(nodes, max_size=3)) for name in names}
    top = st.fixed_dictionaries(
        {},
        optional={
            "updated_at": times(),
            "registry_id": texts,
            "revision": st.none() | st.integers(0, MAX_COUNT),
            "epochs": st.none() | st.dictionaries(any_text, st.integers(0, MAX_COUNT), max_size=3),
            "writes": st.none() | st.lists(any_text, max_size=3),
        },
    )
    raw = {
        **draw(with_unknown(top, OURS_AT_TOP)),
        "version": 1,
        "forests": {name: draw(forests) for name in names},
        "nodes": {
            name: [{**node, "id": f"node-{k}"} for k, node in enumerate(listed[name])] for name in listed
        },
    }
    read: dict[str, Any] = json.loads(json.dumps(raw))  # what two halves beside each other are to a reader
    return read


def with_ids(raw: dict[str, Any]) -> dict[str, Any]:
    """The document with the names that we add where they are missing."""
    return {
        **raw,
        "forests": {name: {"id": name, **forest} for name, forest in raw["forests"].items()},
        "nodes": {
            name: [{"forest_id": name, **node} for node in each] for name, each in raw["nodes"].items()
        },
    }


@given(documents())
@settings(max_examples=150, deadline=None)
def test_any_document_survives_reading_and_writing(raw: dict[str, Any]) -> None:
    after = render(parse(json.dumps(raw)))

    assert differences(with_ids(raw), json.loads(after.encode())) == {"/digest"}
    assert is_ours(parse(after))


huge = st.sampled_from([99_999, 2**53 + 1, 10**20, 10**4299, -(10**4299), "99999", "9" * 5000, "²", "٣"])

odd_values = json_values | huge

odd_texts = odd_values.map(str) | any_text

odd_nodes = st.fixed_dictionaries(
    {"id": st.integers(1, 10**30).map(lambda k: f"oak-node-{k}") | odd_texts},
    optional=dict.fromkeys(OURS_IN_NODES - {"id", "metadata"}, odd_values)
    | {
        "metadata": odd_values
        | st.dictionaries(st.sampled_from(["client_port", "jetstream_file"]), odd_values | odd_texts)
    },
)

odd_lists = odd_values | st.lists(odd_nodes, max_size=3)

odd_forests = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(OURS_IN_FORESTS, odd_values)
    | {"reserved": odd_lists, "removed": odd_lists, "used_numbers": odd_values | st.lists(huge, max_size=2)},
)

odd_documents = st.fixed_dictionaries(
    {"nodes": odd_values | st.dictionaries(st.just("oak"), odd_lists)},
    optional=dict.fromkeys(OURS_AT_TOP - {"nodes"}, odd_values)
    | {
        "version": st.just(1) | odd_values,
        "forests": odd_values | st.dictionaries(st.just("oak"), odd_forests),
        "epochs": odd_values | st.dictionaries(st.just("oak"), odd_values),
    },
)


@given(odd_documents)
@settings(max_examples=300, deadline=None)
def test_whatever_others_write_is_refused_or_can_be_used_and_written(raw: dict[str, Any]) -> None:
    try:
        document = parse(json.dumps(raw))
    except RegistryBrokenError:
        return

    for forest in document.forests.values():
        for node in forest.nodes:
            ports = node.ports
            assert all(0 < port < 2**16 for port in (ports.client, ports.cluster, ports.monitor))
            assert limits_of(node).file > 0
            assert node.label
        with contextlib.suppress(RefusedError):
            fresh = forest.fresh_names(3)
            assert not forest.name or all(Node(name).number for name in fresh)  # nobody can name one without
    assert set(parse(render(document)).forests) == set(document.forests)


def test_a_number_at_its_end_stops_changes_with_a_sentence_and_changes_nothing() -> None:
    store = MemoryStore()
    store.put(json.dumps({"forests": {}, "revision": MAX_COUNT}))
    before = store.read()[:2]

    with pytest.raises(RegistryBrokenError, match=r"cannot be changed any more: the document\.revision"):
        Registry(store).update(lambda document, _: document.with_forest(Forest("elm")))

    assert store.read()[:2] == before
