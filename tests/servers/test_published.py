"""The copy that other programs read, and what people did to the folders beside it."""

import contextlib
import json
import os
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from morpheus.errors import (
    RefusedError,
    RegistryBrokenError,
    RegistryConflictError,
)
from morpheus.registry import Registry, care
from morpheus.wait import wait_until
from tests.servers.others import (
    changed,
    first_of,
    plain_readers,
    published,
    put,
    readers,
    standing_still,
    through,
    written_by_another,
)
from tests.servers.proxy import Gate, Point, Proxy, Say
from tests.servers.webdav import WebDav
from tests.servers.writer import add, recorded

pytestmark = pytest.mark.usefixtures("short_waits")


# Other programs and the copy they read


def test_another_programs_change_stops_every_write_until_it_is_answered(
    server: WebDav, registry: Registry
) -> None:
    add(registry, 1)
    foreign = changed(published(server))
    put(server, foreign)

    with pytest.raises(RegistryBrokenError, match="adopt"):
        add(registry, 2)
    with pytest.raises(RegistryBrokenError, match="adopt"):
        add(Registry(server.store()), 2)
    assert published(server) == foreign
    assert recorded(registry) == [1]
    store = server.store()
    assert store.foreign() == foreign

    store.write(foreign, store.read().version, backup=True, over=foreign)
    assert store.foreign() is None
    add(registry, 2)
    assert "by another program" in published(server)
    assert recorded(registry) == [1, 2]


def test_a_change_that_comes_between_a_read_and_a_write_stands(server: WebDav) -> None:
    store = server.store()
    version = store.write("one", None, backup=False)
    os.utime(server.here / "morpheus/registry.json", (1e9, 1e9))  # long ago: its ETag is strong
    store.read()
    put(server, "theirs")

    version = store.write("two", version, backup=False)

    assert published(server) == "theirs"
    assert store.read()[:2] == ("two", version)
    with pytest.raises(RegistryBrokenError, match="adopt"):
        store.write("three", version, backup=False)


def test_another_program_cannot_write_in_the_middle_of_an_update(
    server: WebDav, registry: Registry, proxy: Proxy
) -> None:
    add(registry, 1)
    locks = json.loads((server.here / "morpheus/morpheus.store/mechanism.json").read_text())["turns"]
    gate = Gate(Point.REQUEST)
    proxy.schedule(first_of("PUT", "registry.json", gate))
    with standing_still(gate, Registry(through(proxy, server).store()), 2), server.client() as client:
        answer = client.put("morpheus/registry.json", content=b"theirs")

    assert answer.status_code == (423 if locks else 204)


@pytest.mark.parametrize("force", [False, True])
def test_what_another_program_recorded_is_not_forgotten_by_putting_ours_back(
    server: WebDav, registry: Registry, force: bool
) -> None:
    add(registry, 1)
    store = server.store()
    theirs = json.loads(published(server))
    theirs["nodes"] = {"oak": [{"id": "oak-node-55", "ip": "2001:db8::55"}]}
    put(server, json.dumps(theirs))

    with contextlib.nullcontext() if force else pytest.raises(RefusedError, match="oak-node-55"):
        care.restore(store, None, force=force)

    assert (store.foreign() is None) == force


def test_a_second_change_of_another_program_is_not_adopted_unseen(server: WebDav, registry: Registry) -> None:
    add(registry, 1)
    first = changed(published(server))
    put(server, first)
    store = server.store()
    assert store.foreign() == first
    put(server, json.dumps({**json.loads(first), "note": "and another"}))
    version = store.read().version

    with pytest.raises(RegistryBrokenError, match="adopt"):
        store.write(first, version, backup=True, over=first)


def test_an_older_text_of_ours_is_published_again_by_the_next_reader(
    server: WebDav, registry: Registry
) -> None:
    add(registry, 1)
    old = published(server)
    written_by_another(server, 10, 30)
    newest = published(server)
    put(server, old)

    assert len(recorded(Registry(server.store()))) == 31
    assert published(server) == newest


def test_a_copy_that_was_cut_in_its_middle_is_published_again(server: WebDav, registry: Registry) -> None:
    add(registry, 1)
    whole = published(server)
    put(server, whole[: len(whole) // 2])

    add(registry, 2)

    assert published(server) == registry._store.read().text != whole


def test_what_stands_there_without_revisions_becomes_the_first_one(server: WebDav) -> None:
    store = server.store()
    store.write("gone", None, backup=False)
    other = replace(server, folder=f"{server.folder}deep/er/")
    with other.client() as client:
        for path in ("../", "", "morpheus/"):
            client.request("MKCOL", path)
    text = json.dumps({"version": 1, "forests": {"oak": {"id": "oak"}}, "nodes": {}, "theirs": "kept"})
    put(other, text)
    registry = Registry(other.store())
    assert set(registry.read().forests) == {"oak"}

    add(registry, 5)

    assert json.loads(published(other))["theirs"] == "kept"
    assert [each.text for each in other.store().backups()] == [text]


def test_readers_never_see_a_torn_empty_or_missing_document(server: WebDav, registry: Registry) -> None:
    add(registry, 1)
    ours = Registry(server.store())
    seen: list[int] = []
    dice = random.Random(5)

    with readers(lambda: seen.append(ours.read().revision)), plain_readers(server):
        store = server.store()
        text, version, _ = store.read()
        document = json.loads(text or "")
        for k in range(300):  # of every length, up and down
            document |= {
                "revision": 1001 + k,
                "filler": "x" * dice.choice([1, 10, 100, 1000, 10_000 + 10 * k]),
            }
            version = store.write(json.dumps(document), version, backup=False)

    assert seen == sorted(seen)


# What people did to the folders


def revision_file(server: WebDav, number: int) -> Path:
    return server.here / f"morpheus/registry.versions/{number}/document.json"


def test_a_damaged_backup_keeps_nobody_from_the_others(server: WebDav, registry: Registry) -> None:
    written_by_another(server, 0, 4)
    revision_file(server, 2).write_text("damaged")

    report = care.check(server.store())

    assert [revision_file(server, 2).name in fault for fault in report.faults] == [True]
    assert [each.document is None for each in care.backups(server.store())] == [False, True, False]
    add(registry, 9)


@pytest.mark.parametrize("damage", ["damaged", None])
def test_a_damaged_newest_revision_says_how_its_text_comes_back(
    server: WebDav, registry: Registry, damage: str | None
) -> None:
    written_by_another(server, 0, 3)
    if damage:
        revision_file(server, 3).write_text(damage)
    else:
        revision_file(server, 3).unlink()
    with pytest.raises(RegistryBrokenError, match=r"remove its folder.*registry adopt"):
        Registry(server.store()).read()

    shutil.rmtree(revision_file(server, 3).parent)
    care.adopt(server.store(), force=False)

    assert recorded(Registry(server.store())) == [0, 1, 2]


def test_revisions_that_were_removed_by_hand_begin_anew(server: WebDav, registry: Registry) -> None:
    written_by_another(server, 0, 3)
    add(registry, 3)
    shutil.rmtree(server.here / "morpheus/registry.versions")

    add(registry, 4)
    add(Registry(server.store()), 5)

    assert sorted(recorded(registry)) == [0, 1, 2, 3, 4, 5]


def test_a_number_that_comes_back_is_read_anew(server: WebDav) -> None:
    old, new = (server.store(name="secrets/oak") for _ in range(2))
    version = old.write("old", None, backup=False)
    written = int(time.time())
    shutil.rmtree(server.here / "morpheus/secrets/oak.versions")
    wait_until(  # the server's times are whole seconds
        "the next second", time.time, lambda now: int(now) > written, str, timeout=5, interval=0.05
    )
    new.write("new", None, backup=False)

    assert old.read().text == "new"
    with pytest.raises(RegistryConflictError):
        old.write("over it", version, backup=False)


@pytest.mark.parametrize("status", [409, 500, 503])
def test_an_unclear_answer_to_the_first_question_decides_nothing(
    server: WebDav, proxy: Proxy, status: int
) -> None:
    proxy.schedule(first_of("MOVE", "probing", Say(status, after=True)))

    add(Registry(through(proxy, server).store()), 1)

    assert json.loads((server.here / "morpheus/morpheus.store/mechanism.json").read_text())["once"]
