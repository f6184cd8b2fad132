"""The mechanism for servers whose MOVE overwrites: the contract of stores, kept by locks alone.

But for an empty text: a lock on nothing makes an empty file, which counts as nothing.
"""

import pytest

from morpheus.errors import RegistryConflictError
from morpheus.registry import Registry, Store
from morpheus.registry.care import Place
from morpheus.registry.locked import Locked
from tests.contracts import test_store as contract
from tests.contracts import test_store_many as contract_of_many
from tests.servers.fixtures import own_folder
from tests.servers.webdav import WebDav
from tests.servers.writer import add, recorded

test_absent = contract.test_nothing_is_read_before_the_first_write
test_read = contract.test_what_was_written_is_read_with_its_version
test_first_write = contract.test_a_first_write_expects_that_nothing_is_there
test_second_first_write = contract.test_a_second_first_write_is_refused
test_stale_write = contract.test_a_stale_write_is_refused_and_changes_nothing
test_two_writers = contract_of_many.test_of_two_writers_that_expect_the_same_exactly_one_wins
test_many_first_writers = contract_of_many.test_of_many_first_writers_exactly_one_wins
test_versions = contract.test_every_new_text_has_a_new_version
test_kept = contract.test_a_replaced_text_is_kept_only_when_asked
test_backups = contract_of_many.test_the_newest_twenty_backups_are_kept_newest_first
test_beside = contract.test_what_stands_beside_a_document_is_listed_by_name
test_beside_once = contract.test_a_document_beside_is_made_once
test_removed = contract.test_what_was_removed_is_not_there_and_its_name_is_free
test_removed_stale = contract.test_only_the_version_that_was_read_is_removed
test_removed_meanwhile = contract.test_a_write_over_what_was_removed_meanwhile_is_refused
test_removed_text = contract.test_nothing_of_a_removed_text_is_left
test_time = contract.test_the_time_is_real_and_in_utc


pytestmark = pytest.mark.servers  # with the other tests of stores that take long


@pytest.fixture
def place(wsgidav_server: WebDav) -> Place:
    server = own_folder(wsgidav_server)

    def at(name: str | None) -> Store:
        store = server.store(name=name)
        store._mechanism = Locked(store._dav, name or "registry")
        return store

    return at


@pytest.fixture
def store(place: Place) -> Store:
    return place(None)


def test_a_lock_that_somebody_else_ended_is_no_leave_to_write(store: Store) -> None:
    """Its token is refused with the write, and nothing is changed."""
    registry = Registry(store)
    add(registry, 1)
    with store.turn():
        locked = store._mechanism  # type: ignore[attr-defined]
        locked._dav.unlock("registry.json", locked._mine.token)
        with pytest.raises(RegistryConflictError):
            store.write("late", store.read().version, backup=False)

    assert recorded(registry) == [1]
