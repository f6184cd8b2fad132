"""The compare-and-set loop: every change happens once, whatever the store answers."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from morpheus.errors import InvalidInputError, RegistryBrokenError, RegistryConflictError, StoreBusyError
from morpheus.forest import Forest, Lease, Node
from morpheus.registry import Registry
from morpheus.registry.document import REMEMBERED_WRITES, Document, parse, render
from tests.fakes import MemoryStore

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class UnsteadyStore(MemoryStore):
    """A store whose answers get lost: before or after the write of that number took effect."""

    def __init__(self, *, lost_before: int = 0, lost_after: int = 0) -> None:
        super().__init__()
        self.writes, self.lost_before, self.lost_after = 0, lost_before, lost_after

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        self.writes += 1
        if self.writes == self.lost_before:
            raise StoreBusyError("no answer")
        version = super().write(text, expected, backup=backup, over=over)
        if self.writes == self.lost_after:
            raise StoreBusyError("no answer")
        return version


def counted(document: Document, now: datetime) -> Document:
    """The change of these tests: one more used number."""
    forest = document.forests.get("oak", Forest("oak"))
    return document.with_forest(
        replace(forest, used_numbers=(*forest.used_numbers, len(forest.used_numbers)))
    )


def count(registry: Registry) -> int:
    return len(registry.read().forests["oak"].used_numbers)


@pytest.mark.parametrize("lost", ["lost_before", "lost_after"])
def test_an_update_whose_answer_was_lost_happens_once(lost: str) -> None:
    store = UnsteadyStore(**{lost: 2})
    registry = Registry(store)

    for _ in range(3):
        registry.update(counted)

    assert count(registry) == 3
    assert store.writes == (4 if lost == "lost_before" else 3)


class Busy(UnsteadyStore):
    """A store in which others write on while an answer is lost."""

    def __init__(self, others: int) -> None:
        super().__init__(lost_after=1)
        self._others = others

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        try:
            return super().write(text, expected, backup=backup, over=over)
        except StoreBusyError:
            for _ in range(self._others):
                Registry(self).update(counted)
            raise


def test_a_lost_answer_is_settled_although_others_wrote_since() -> None:
    registry = Registry(Busy(REMEMBERED_WRITES - 1))

    document = registry.update(counted)

    assert len(document.forests["oak"].used_numbers) == REMEMBERED_WRITES
    assert count(registry) == REMEMBERED_WRITES


def test_a_lost_answer_that_nobody_can_settle_any_more_is_said() -> None:
    registry = Registry(Busy(REMEMBERED_WRITES))

    with pytest.raises(RegistryBrokenError, match="nobody can tell"):
        registry.update(counted)

    assert count(registry) == REMEMBERED_WRITES + 1


def test_a_write_that_did_not_happen_is_forgotten_once_another_took_its_place() -> None:
    class Crowded(MemoryStore):
        """The first write never arrives, and before each of the next ten others come first."""

        tries = 0

        def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
            self.tries += 1
            if self.tries == 1:
                raise StoreBusyError("no answer")
            for _ in range(10 if self.tries < 12 else 0):
                before = parse(self.read().text or '{"version": 1, "forests": {}, "nodes": {}}')
                after = replace(counted(before, NOON), revision=before.revision + 1, writes=("another's",))
                self.put(render(after))
            return super().write(text, expected, backup=backup, over=over)

        def put(self, text: str) -> None:
            super().write(text, self.read().version, backup=False)

    registry = Registry(Crowded())

    registry.update(counted)

    assert count(registry) == 101 > REMEMBERED_WRITES


def test_a_change_that_lost_a_race_is_asked_again_with_what_the_other_wrote() -> None:
    store = MemoryStore()
    registry, other = Registry(store), Registry(store)
    asked: list[int] = []

    def change(document: Document, now: datetime) -> Document:
        asked.append(document.revision)
        if len(asked) < 3:
            other.update(counted)
        return counted(document, now)

    registry.update(change)

    assert asked == [0, 1, 2]
    assert count(registry) == 3


def test_what_a_change_raises_leaves_everything_as_it_was() -> None:
    store = MemoryStore()
    registry = Registry(store)
    registry.update(counted)
    before = store.read()[:2]

    def refuse(document: Document, now: datetime) -> Document:
        raise InvalidInputError("no")

    with pytest.raises(InvalidInputError):
        registry.update(refuse)

    assert store.read()[:2] == before


def test_losing_for_too_long_ends_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morpheus.registry.UPDATE_TIMEOUT", 0.05)

    class Taken(MemoryStore):
        def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
            raise RegistryConflictError("another writer, always")

    with pytest.raises(RegistryConflictError, match="always"):
        Registry(Taken()).update(counted)


def test_an_unchanged_document_is_not_written() -> None:
    store = UnsteadyStore()
    registry = Registry(store)
    registry.update(counted)

    registry.update(lambda document, _: document)

    assert store.writes == 1


def test_every_write_counts_up_and_is_dated_by_the_store() -> None:
    registry = Registry(MemoryStore(clock=lambda: NOON))

    for revision in (1, 2, 3):
        document = registry.update(counted)

        assert (document.revision, document.updated_at) == (revision, NOON)
    assert registry.now() == NOON


def test_the_registry_keeps_the_id_of_its_first_write() -> None:
    registry = Registry(MemoryStore())

    first = registry.update(counted).registry_id
    second = registry.update(counted).registry_id

    assert first
    assert second == first


def test_a_change_of_leases_alone_leaves_no_backup() -> None:
    store = MemoryStore()
    registry = Registry(store)
    registry.update(counted)
    lease = Lease("plant", "run", "me", NOON, NOON)

    registry.update(lambda document, _: document.with_forest(replace(document.forests["oak"], lease=lease)))
    assert store.backups() == []

    registry.update(lambda document, _: document.with_forest(Forest("oak", nodes=(Node("oak-node-1"),))))
    assert len(store.backups()) == 1
