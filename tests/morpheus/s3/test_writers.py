"""The registry in S3: writers that race, die, stall or lose answers."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from morpheus.errors import RegistryBrokenError, StoreBusyError
from morpheus.forest import Forest
from morpheus.registry import KEPT_BACKUPS, Registry
from morpheus.registry.document import Document
from morpheus.registry.s3 import REMEMBERED
from tests.morpheus.writer import added
from tests.servers.s3 import S3, Fault, proxied

pytestmark = pytest.mark.long

WRITERS, UPDATES = 10, 20


def add(registry: Registry, number: int) -> Document:
    return registry.update(
        lambda document, _: document.with_forest(added(document.forests.get("oak", Forest("oak")), number))
    )


def renew(registry: Registry, number: int) -> None:
    """Change what no backup is kept for."""

    def later(document: Document, _: object) -> Document:
        return replace(document, epochs={**document.epochs, "oak": number})

    registry.update(later)


def numbers(server: S3, path: str) -> list[int]:
    return list(Registry(server.store(path)).read().forests["oak"].used_numbers)


def write_together(server: S3, path: str) -> None:
    """Let ten writers, each with a store of its own, make twenty updates each."""

    def write(k: int) -> None:
        registry = Registry(server.store(path))
        for n in range(UPDATES):
            add(registry, UPDATES * k + n)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))


# Requests


def test_an_update_takes_two_requests_and_four_with_a_backup(s3: S3, path: str) -> None:
    with proxied(s3) as proxy:
        registry = Registry(proxy.server.store(path))
        registry_of_others = Registry(s3.store(path))
        for k in range(KEPT_BACKUPS + 2):
            add(registry_of_others, k)
        add(registry, 100)

        del proxy.requests[:]
        renew(registry, 1)
        renewed = [method for method, _ in proxy.requests]
        del proxy.requests[:]
        add(registry, 101)
        changed = [method for method, _ in proxy.requests]

    assert renewed == ["GET", "PUT"]
    assert changed == ["GET", "PUT", "PUT", "DELETE"]


# Many writers


def test_no_update_of_many_writers_is_lost(s3: S3, path: str) -> None:
    write_together(s3, path)

    assert sorted(numbers(s3, path)) == list(range(WRITERS * UPDATES))


def test_no_update_is_lost_or_made_twice_while_replies_are_cut(s3: S3, path: str) -> None:
    dice = random.Random(3)
    with proxied(s3, Fault(cut=lambda *_: dice.random() < 0.05)) as proxy:
        write_together(proxy.server, path)

    assert sorted(numbers(s3, path)) == list(range(WRITERS * UPDATES))


def test_of_ten_first_writers_every_one_gets_its_update_in(s3: S3, path: str) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda k: add(Registry(s3.store(path)), k), range(WRITERS)))

    assert sorted(numbers(s3, path)) == list(range(WRITERS))


# A writer that is interrupted


@pytest.fixture
def requests(s3: S3, path: str) -> list[str]:
    """The methods of the requests that :func:`interrupted` makes."""
    with proxied(s3) as proxy:
        interrupted(proxy.server, path.replace(".json", "-counted.json"))
        return [method for method, _ in proxy.requests]


def interrupted(server: S3, path: str) -> None:
    """Make a first update, one with a backup, and one without."""
    registry = Registry(server.store(path))
    add(registry, 1)
    add(registry, 2)
    renew(registry, 3)


def others(server: S3, path: str, count: int) -> None:
    registry = Registry(server.store(path))
    for n in range(count):
        add(registry, 1000 + n)


@pytest.mark.parametrize("count", [1, REMEMBERED + 5])
@pytest.mark.parametrize("where", ["before", "middle"])
def test_a_writer_that_stalls_in_any_request_overwrites_nothing(
    s3: S3, path: str, requests: list[str], where: str, count: int
) -> None:
    stalled = [k for k, method in enumerate(requests) if where == "before" or method == "PUT"]
    for k in stalled if count == 1 else stalled[-2:]:
        mine = path.replace(".json", f"-{k}.json")

        def stall(_method: str, _path: str, number: int, k: int = k, mine: str = mine) -> None:
            if number == k:
                others(s3, mine, count)

        fault = Fault(before=stall) if where == "before" else Fault(middle=stall)
        with proxied(s3, fault) as proxy:
            interrupted(proxy.server, mine)

        assert sorted(numbers(s3, mine)) == [1, 2, *range(1000, 1000 + count)]
        assert len(s3.store(mine).backups()) <= KEPT_BACKUPS


@pytest.mark.parametrize("count", [0, 1])
def test_a_reply_lost_after_any_request_loses_nothing_and_repeats_nothing(
    s3: S3, path: str, requests: list[str], count: int
) -> None:
    for k in range(len(requests)):
        mine = path.replace(".json", f"-{k}.json")

        def cut(_method: str, _path: str, number: int, k: int = k, mine: str = mine) -> bool:
            if number == k:
                others(s3, mine, count)
            return number == k

        with proxied(s3, Fault(cut=cut)) as proxy:
            interrupted(proxy.server, mine)

        assert sorted(numbers(s3, mine)) == [1, 2, *range(1000, 1000 + count)]


def test_a_write_that_is_repeated_on_its_way_is_no_conflict(s3: S3, path: str) -> None:
    with proxied(s3, Fault(repeat=lambda method, *_: method == "PUT")) as proxy:
        store = proxy.server.store(path)
        version = store.write("one", None, backup=False)
        version = store.write("two", version, backup=True)

    assert s3.store(path).read()[:2] == ("two", version)


def test_a_write_that_was_overtaken_after_its_answer_got_lost_is_no_conflict(s3: S3, path: str) -> None:
    def overtake(method: str, _path: str, _number: int) -> bool:
        if method == "PUT":
            others = s3.store(path)
            others.write("theirs", others.read().version, backup=False)
        return method == "PUT"

    with proxied(s3) as proxy:
        store = proxy.server.store(path)
        version = store.write("one", None, backup=False)
        proxy.fault.cut = overtake

        with pytest.raises(StoreBusyError, match="changed again by others"):
            store.write("two", version, backup=False)


# Backups


def test_renewals_flush_no_backups_and_losers_leave_none(s3: S3, path: str) -> None:
    registry = Registry(s3.store(path))
    for k in range(3):
        add(registry, k)
    kept = [each.text for each in s3.store(path).backups()]
    for k in range(KEPT_BACKUPS + 1):
        renew(registry, k)

    assert [each.text for each in s3.store(path).backups()] == kept
    assert len(kept) == 2


def test_what_another_program_put_there_is_kept_when_it_is_replaced(s3: S3, path: str) -> None:
    store = s3.store(path)
    version = store.write("one", None, backup=False)
    store.write("two", version, backup=True)
    store._bucket.put(path, b"theirs")

    late = s3.store(path)
    late.write("three", late.read().version, backup=True)

    assert [each.text for each in late.backups()] == ["theirs", "one"]


def test_a_document_that_is_gone_is_no_empty_one(s3: S3, path: str) -> None:
    store = s3.store(path)
    for k in range(2):
        add(Registry(store), k)
    store._bucket.delete(path)

    with pytest.raises(RegistryBrokenError, match="is gone, but there are backups"):
        Registry(s3.store(path)).read()
