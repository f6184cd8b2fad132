"""The document that other programs share with us: nothing of theirs is lost, nothing of ours misleads."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from morpheus.errors import RegistryBrokenError, RegistryNewerError
from morpheus.forest import Forest, Lease, Node, Status
from morpheus.registry import Registry
from morpheus.registry.document import Document, decode_time, is_ours, parse, render
from tests import reader
from tests.fakes import MemoryStore
from tests.morpheus.documents import FOREIGN, NOON, full_document, rendered

# Formats of other versions


@pytest.mark.parametrize("version", ["", '"version": 1, ', '"version": null, '])
def test_the_first_format_may_leave_its_version_out(version: str) -> None:
    assert parse(f'{{{version}"forests": {{"oak": {{}}}}}}').forests.keys() == {"oak"}


def test_a_newer_format_is_refused_for_reading_and_for_change_and_nothing_is_to_be_put_back(
    store: MemoryStore,
) -> None:
    store.put('{"version": 2, "trees": []}')
    registry = Registry(store)

    for act in (registry.read, lambda: registry.update(lambda document, _: document)):
        with pytest.raises(RegistryNewerError, match="newer Morpheus") as refused:
            act()
        assert store.url in str(refused.value)
        assert "backup" not in str(refused.value)


def test_beside_a_newer_backup_no_older_one_is_offered(store: MemoryStore) -> None:
    store.put('{"version": 2, "trees": []}')
    store.write("{", store.read().version, backup=True)

    with pytest.raises(RegistryNewerError, match="newer Morpheus"):
        Registry(store).read()


# Times


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2025-01-02T03:04:05Z", datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2025-01-02t03:04:05.5z", datetime(2025, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)),
        ("2025-01-02T03:04:05.123456789Z", datetime(2025, 1, 2, 3, 4, 5, 123_456, tzinfo=UTC)),
        ("2025-01-02T03:04:05.123456789+05:45", datetime(2025, 1, 1, 21, 19, 5, 123_456, tzinfo=UTC)),
        ("2025-01-02T03:04:05-00:00", datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00.000000001+14:00", None),
        ("", None),
        (None, None),
    ],
)
def test_times_are_read_in_every_form_that_others_write(text: str | None, time: datetime | None) -> None:
    assert decode_time(text) == time


# Our own documents


def test_what_we_write_is_what_we_read() -> None:
    document = full_document()

    again = parse(render(document))

    assert again == document


def test_only_nodes_with_an_address_that_stay_are_listed() -> None:
    raw = rendered(full_document())

    assert [node["id"] for node in raw["nodes"]["oak"]] == ["oak-node-1"]
    assert [node["id"] for node in raw["forests"]["oak"]["reserved"]] == ["oak-node-2"]
    assert [node["id"] for node in raw["forests"]["oak"]["removed"]] == ["oak-node-3", "oak-node-4"]


def test_a_node_that_got_its_address_moves_to_the_list_and_one_that_leaves_moves_out() -> None:
    document = parse(render(full_document()))
    oak = document.forests["oak"]
    oak = oak.with_nodes(
        replace(oak.node("oak-node-2"), ip="2001:db8::2"),
        replace(oak.node("oak-node-1"), status=Status.DELETING),
    ).without("oak-node-3", "oak-node-4")

    raw = rendered(document.with_forest(oak))

    assert [node["id"] for node in raw["nodes"]["oak"]] == ["oak-node-2"]
    assert "reserved" not in raw["forests"]["oak"]
    assert [node["id"] for node in raw["forests"]["oak"]["removed"]] == ["oak-node-1"]


def test_a_forgotten_forest_leaves_only_its_epoch() -> None:
    raw = rendered(parse(render(full_document())).without_forest("oak"))

    assert "oak" not in raw["forests"]
    assert "oak" not in raw["nodes"]
    assert raw["epochs"] == {"oak": 3, "gone": 9}


@pytest.mark.parametrize(
    ("ip", "written"),
    [
        ("2001:0DB8:0000:0000:0000:0000:0000:0001", "2001:db8::1"),
        ("2001:DB8::A", "2001:db8::a"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_an_address_is_written_in_its_shortest_form(ip: str, written: str) -> None:
    document = Document({"oak": Forest("oak", nodes=(Node("oak-node-1", ip),))})

    assert rendered(document)["nodes"]["oak"][0]["ip"] == written


@pytest.mark.parametrize("ip", ["2001:db8::1/64", "[2001:db8::1]", "2001:db8::1:6222:", "oak.example"])
def test_what_is_no_bare_address_is_never_written(ip: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        render(Document({"oak": Forest("oak", nodes=(Node("oak-node-1", ip),))}))


def test_nothing_is_written_as_null_or_empty() -> None:
    raw = rendered(Document({"oak": Forest("oak", nodes=(Node("oak-node-1"),))}))

    assert raw["forests"]["oak"] == {
        "id": "oak",
        "status": "active",
        "reserved": [
            {"id": "oak-node-1", "forest_id": "oak", "role": "node", "status": "provisioning"}
        ],
    }  # fmt: skip


def test_other_programs_read_what_we_write() -> None:
    oak = full_document().forests["oak"].with_nodes(
        Node("oak-node-5", "2001:DB8::5", metadata={"client_port": "4223"}), Node("oak-node-6", "10.0.0.6")
    )  # fmt: skip
    text = render(full_document().with_forest(oak))

    assert reader.routes(text, "oak", "2001:db8::1") == ["[2001:db8::5]:6222", "[10.0.0.6]:6222"]
    assert reader.routes(text, "elm", "2001:db8::1") == []


@pytest.mark.parametrize(
    "text",
    [
        FOREIGN.replace('"medium"', "3"),
        FOREIGN.replace('"2001:db8::1"', '""'),
        FOREIGN.replace('"2001:db8::1"', '"2001:db8::1/64"'),
        FOREIGN.replace('"2001:db8::1"', '"2001:DB8::1"'),
        FOREIGN.replace('"2001:db8::1"', "null"),
        FOREIGN.replace('{"a": "b"}', '{"a": 1}'),
        FOREIGN.replace('"version": 1', '"version": "1"'),
        FOREIGN.replace("2025-03-04T", "04.03.2025 "),
    ],
)
def test_the_reader_of_these_tests_refuses_what_other_programs_refuse(text: str) -> None:
    reader.read(FOREIGN.replace(', "registry_url": null', ""))

    with pytest.raises(reader.UnreadableError):
        reader.read(text.replace(', "registry_url": null', ""))


# Sparse and damaged documents


def test_a_document_of_nodes_alone_is_valid() -> None:
    document = parse('{"nodes": {"oak": [{"id": "oak-node-1", "ip": "2001:db8::1"}]}}')

    oak = document.forests["oak"]
    assert [(node.name, node.ip, node.status) for node in oak.nodes] == [
        ("oak-node-1", "2001:db8::1", Status.ACTIVE)
    ]
    assert reader.routes(render(document), "oak", "") == ["[2001:db8::1]:6222"]


def test_a_name_without_nodes_or_a_record_is_no_forest() -> None:
    assert parse('{"forests": {}, "nodes": {"oak": [], "elm": null}}').forests == {}


def test_numbers_given_by_other_programs_are_never_given_again() -> None:
    document = parse('{"nodes": {"oak": [{"id": "oak-node-7", "ip": "::1"}, {"id": "x", "ip": "::2"}]}}')

    assert document.forests["oak"].without("oak-node-7").fresh_names(1) == ("oak-node-8",)


WRONG = {
    '{"forests": {"oak": {"size": 3}}}': "forests.oak.size cannot be read: expected str, found int",
    '{"forests": {"oak": {"size": true}}}': "forests.oak.size",
    '{"forests": {"oak": {"created_at": 5}}}': "forests.oak.created_at",
    '{"forests": {"oak": {"created_at": "yesterday"}}}': "forests.oak.created_at",
    '{"forests": {"oak": {"created_at": "9999-12-31T23:59:59-12:00"}}}': "forests.oak.created_at",
    '{"forests": {"oak": {"used_numbers": ["1"]}}}': "forests.oak.used_numbers",
    '{"forests": {"oak": {"lease": []}}}': "forests.oak.lease",
    '{"forests": {"oak": []}}': "forests.oak is not an object",
    '{"forests": {"oak": {"reserved": {}}}}': "reserved of oak is not a list",
    '{"forests": [{}]}': "forests is not an object",
    '{"nodes": {"oak": {}, "elm": {"a": 1}}}': "nodes of elm is not a list",
    '{"nodes": {"oak": [1]}}': r"nodes.oak\[0\] is not an object",
    '{"nodes": {"oak": [{"ip": "::1"}]}}': r"nodes.oak\[0\] has no id",
    '{"nodes": {"oak": [{"id": ""}]}}': r"nodes.oak\[0\] has no id",
    '{"nodes": {"oak": [{"id": "a", "ip": 1}]}}': r"nodes.oak\[0\].ip",
    '{"nodes": {"oak": [{"id": "a", "metadata": {"k": 1}}]}}': r"nodes.oak\[0\].metadata",
    '{"nodes": {"oak": [{"id": "a"}, {"id": "a"}]}}': "oak lists a node twice",
    '{"forests": {}, "version": "2"}': 'its version is "2"',
    '{"forests": {}, "version": 0}': "its version is 0",
    '{"forests": {}, "version": true}': "its version is true",
    '{"forests": {}, "x": 1e999}': "1e999 is no number",
    '{"forests": {}, "x": NaN}': "NaN is no number",
    '{"forests": {}, "x": ' + "[" * 200 + "]" * 200 + "}": "deep",
    '{"forests": {}, "x": ' + 5000 * "9" + "}": "4300 digits",
    '{"forests": {"oak": {"used_numbers": [10000000]}}}': "used_numbers",
    '{"forests": {}, "revision": 9007199254740993}': "the document.revision",
    '{"forests": {}, "epochs": {"oak": 9007199254740993}}': "the document.epochs",
    '{"forests": {}, "revision": "7"}': "the document.revision",
    '{"forests": {}, "epochs": {"oak": "1"}}': "the document.epochs",
}


@pytest.mark.parametrize(("text", "place"), WRONG.items())
def test_a_wrong_type_is_refused_and_the_place_named(text: str, place: str) -> None:
    with pytest.raises(RegistryBrokenError, match=place):
        parse(text)


def test_a_lease_without_its_times_or_process_holds_nothing_and_breaks_nothing() -> None:
    lease = {"run": None, "started": None, "expires": "2026-01-01T12:00:00Z", "process": None}

    assert parse(json.dumps({"forests": {"oak": {"lease": lease}}})).forests["oak"].lease is None
    lease["started"] = lease["expires"]
    assert parse(json.dumps({"forests": {"oak": {"lease": lease}}})).forests["oak"].lease == Lease(
        "", "", "", NOON, NOON
    )


# What another writer dropped comes back


@pytest.fixture
def store() -> MemoryStore:
    """A registry that we have written to several times, so that its newest backup knows it all."""
    store = MemoryStore()
    registry = Registry(store)
    document = full_document()
    registry.update(lambda _, now: replace(document, registry_id=None, revision=0, writes=()))
    registry.update(lambda known, now: known.with_forest(Forest("ash")))
    return store


def simple(text: str | None) -> dict[str, Any]:
    """What a program writes that knows only the fields of the original format."""
    raw = json.loads(text or "")
    known = {"id", "provider", "location", "size", "status", "created_at", "registry_url", "last_expansion"}
    return {
        "version": 1,
        "updated_at": "2026-02-03T04:05:06Z",
        "forests": {
            name: {key: value for key, value in forest.items() if key in known}
            for name, forest in raw["forests"].items()
        },
        "nodes": raw["nodes"],
    }


def test_dropped_bookkeeping_comes_back_from_the_newest_backup(store: MemoryStore) -> None:
    before = Registry(store).read()
    store.put(json.dumps(simple(store.read().text)))

    after = Registry(store).read()

    assert after.registry_id == before.registry_id
    assert after.epochs == {"oak": 3, "gone": 9}
    assert after.revision == 1 + 1000
    assert after.forests["oak"].used_numbers == (1, 2, 3, 4)
    assert after.forests["oak"].nodes == before.forests["oak"].nodes


def test_what_came_back_is_written_with_our_next_change(store: MemoryStore) -> None:
    store.put(json.dumps(simple(store.read().text)))
    registry = Registry(store)

    registry.update(lambda document, _: document.without_forest("ash"))

    raw = json.loads(store.read().text or "")
    assert is_ours(parse(store.read().text or ""))
    assert raw["revision"] == 1002
    assert [node["id"] for node in raw["forests"]["oak"]["reserved"]] == ["oak-node-2"]
    assert raw["forests"]["oak"]["used_numbers"] == [1, 2, 3, 4]


def test_a_dropped_lease_is_lost(store: MemoryStore) -> None:
    store.put(json.dumps(simple(store.read().text)))

    assert Registry(store).read().forests["oak"].lease is None


def test_a_change_that_another_program_made_counts(store: MemoryStore) -> None:
    raw = simple(store.read().text)
    raw["forests"]["oak"]["status"] = "active"
    raw["nodes"]["oak"].append({"id": "oak-node-9", "ip": "2001:db8::9"})
    del raw["forests"]["elm"]
    store.put(json.dumps(raw))

    document = Registry(store).read()

    oak = document.forests["oak"]
    assert set(document.forests) == {"oak", "ash"}
    assert oak.status == Status.ACTIVE
    assert oak.node("oak-node-9").ip == "2001:db8::9"
    assert oak.fresh_names(1) == ("oak-node-10",)


def test_without_any_backup_a_registry_id_is_made_with_our_first_write() -> None:
    store = MemoryStore()
    store.put('{"nodes": {"oak": [{"id": "oak-node-1", "ip": "::1"}]}}')
    registry = Registry(store)
    assert registry.read().registry_id is None

    registry.update(lambda document, _: document.with_forest(Forest("elm")))

    assert registry.read().registry_id
