"""The contract of the Store port: whatever keeps the registry keeps these promises."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from morpheus.errors import RegistryConflictError
from morpheus.registry import Store
from morpheus.registry.care import Place
from tests.contracts.places import KINDS, PLACES, texts


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return KINDS[request.param](request, tmp_path)


def test_nothing_is_read_before_the_first_write(store: Store) -> None:
    text, version, _ = store.read()

    assert (text, version) == (None, None)
    assert store.backups() == []


def test_what_was_written_is_read_with_its_version(store: Store) -> None:
    version = store.write("one", None, backup=False)

    assert store.read()[:2] == ("one", version)


def test_a_first_write_expects_that_nothing_is_there(store: Store) -> None:
    with pytest.raises(RegistryConflictError):
        store.write("one", "0", backup=False)

    assert store.read().text is None


def test_a_second_first_write_is_refused(store: Store) -> None:
    store.write("one", None, backup=False)

    with pytest.raises(RegistryConflictError):
        store.write("two", None, backup=False)

    assert store.read().text == "one"


def test_a_stale_write_is_refused_and_changes_nothing(store: Store) -> None:
    stale = store.write("one", None, backup=False)
    newest = store.write("two", stale, backup=True)
    kept = store.backups()

    with pytest.raises(RegistryConflictError):
        store.write("three", stale, backup=True)

    assert store.read()[:2] == ("two", newest)
    assert store.backups() == kept


def test_every_new_text_has_a_new_version(store: Store) -> None:
    versions: list[str] = []
    for k in range(30):
        versions.append(store.write(f"text {k}", versions[-1] if versions else None, backup=False))

    assert len(set(versions)) == 30


def test_a_replaced_text_is_kept_only_when_asked(store: Store) -> None:
    first = store.write("one", None, backup=False)
    second = store.write("two", first, backup=False)
    store.write("three", second, backup=True)

    assert [backup.text for backup in store.backups()] == ["two"]


@pytest.mark.parametrize(
    "text",
    ["ÄÖ 🌲 \u2028\r\n\t\x00 end", "ü" * 2**20, "no newline", "two\n\n", ""],
    ids=len,
)
def test_the_text_comes_back_to_the_byte(store: Store, text: str) -> None:
    version = store.write(text, None, backup=False)
    store.write("next", version, backup=True)

    assert store.backups()[0].text == text
    store.write(text, store.read().version, backup=False)
    assert store.read().text == text


def test_the_time_is_real_and_in_utc(store: Store) -> None:
    now = store.read().now

    assert now.utcoffset() == timedelta(0)
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=60)


def test_the_place_is_named_without_credentials(store: Store) -> None:
    assert store.url.endswith(".json")
    assert "@" not in store.url


# Documents beside the registry


def test_what_stands_beside_a_document_is_listed_by_name(place: Place, store: Store) -> None:
    assert store.beside() == []
    for name in ("secrets/oak", "secrets/2024"):
        version = place(name).write(f"of {name}", None, backup=False)
        place(name).write(f"of {name}, changed", version, backup=True)
    store.write("the registry", None, backup=False)

    assert store.beside() == ["secrets/2024", "secrets/oak"]
    assert [place(name).read().text for name in store.beside()] == [
        "of secrets/2024, changed",
        "of secrets/oak, changed",
    ]
    assert store.read().text == "the registry"


def test_a_document_beside_is_made_once(place: Place) -> None:
    place("secrets/oak").write("a secret", None, backup=False)

    with pytest.raises(RegistryConflictError):
        place("secrets/oak").write("another", None, backup=False)

    assert place("secrets/oak").read().text == "a secret"


# Removing


def test_what_was_removed_is_not_there_and_its_name_is_free(place: Place, store: Store) -> None:
    secret = place("secrets/oak")
    version = secret.write("one", None, backup=False)
    version = secret.write("two", version, backup=True)

    secret.remove(version)

    for each in (secret, place("secrets/oak")):
        assert (each.read()[:2], list(each.backups())) == ((None, None), [])
    assert store.beside() == []
    again = place("secrets/oak").write("three", None, backup=True)
    assert secret.read()[:2] == ("three", again)
    assert list(secret.backups()) == []
    assert store.beside() == ["secrets/oak"]
    secret.remove(again)
    assert store.beside() == []


def test_only_the_version_that_was_read_is_removed(place: Place) -> None:
    secret = place("secrets/oak")
    with pytest.raises(RegistryConflictError):
        secret.remove("0")
    stale = secret.write("one", None, backup=False)
    newest = place("secrets/oak").write("two", stale, backup=False)

    for each in (secret, place("secrets/oak")):
        with pytest.raises(RegistryConflictError):
            each.remove(stale)

    assert secret.read()[:2] == ("two", newest)


def test_a_write_over_what_was_removed_meanwhile_is_refused(place: Place) -> None:
    secret, other = place("secrets/oak"), place("secrets/oak")
    version = secret.write("one", None, backup=False)
    assert other.read().version == version

    secret.remove(version)

    with pytest.raises(RegistryConflictError):
        other.write("two", version, backup=False)
    with pytest.raises(RegistryConflictError):
        other.remove(version)
    assert secret.read().text is None


def test_two_that_were_removed_are_told_apart(place: Place) -> None:
    """Who slept while a text was made and removed replaces neither it nor what came after."""
    early, late = place("secrets/oak"), place("secrets/oak")
    early.remove(early.write("one", None, backup=False))
    assert early.read().version is None
    late.remove(late.write("two", None, backup=False))
    late.write("three", None, backup=False)

    with pytest.raises(RegistryConflictError):
        early.write("four", None, backup=False)

    assert late.read().text == "three"


def test_nothing_of_a_removed_text_is_left(place: Place) -> None:
    secret = place("secrets/oak")
    version = secret.write("a text of old", None, backup=False)
    version = place("secrets/oak").write("a text of late", version, backup=True)
    assert len([each for each in texts(secret) if "a text of" in each]) == 2

    place("secrets/oak").remove(version)

    assert [each for each in texts(secret) if "a text of" in each] == []
