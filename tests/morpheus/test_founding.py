"""What init decides, makes up and writes as text; all without a cloud."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from morpheus import founding, kept, keyring, transfer
from morpheus.cloud.hetzner.boxes import Box
from morpheus.errors import InvalidInputError
from morpheus.founding import Elsewhere, Nowhere, Ours
from morpheus.kept import Access
from tests.simulator.routes.storage_boxes import check_password

SECRET, KEY = "Aa1-" + "x" * 20, "a2V5" * 10
PENDING = Access("a" * 32, password=SecretStr(SECRET), key=SecretStr(KEY))
MINE = replace(PENDING, url="https://u1.example/morpheus/registry.json", username="u1")
ACCOUNT = Access("b" * 32, "storagebox", "https://u2-sub1.example/registry.json", "u2-sub1", device="d1")


def box(registry_id: str, name: str = "morpheus-registry", user: str | None = "u1") -> Box:
    url = f"https://{user}.example/morpheus/registry.json"
    bound: Any = None
    return Box(name, registry_id, "fsn1", "bx11", url, user, bound)


def test_without_a_box_one_is_to_be_made_with_what_was_kept() -> None:
    assert founding.decide([], []) == Nowhere(None)
    assert founding.decide([], [ACCOUNT, PENDING]) == Nowhere(PENDING)
    assert founding.decide([], [MINE]) == Nowhere(None)  # its box is gone, and its key is that one's


@pytest.mark.parametrize("known", [PENDING, MINE])
def test_the_box_whose_password_is_kept_is_ours(known: Access) -> None:
    assert founding.decide([box("a" * 32)], [ACCOUNT, known]) == Ours(box("a" * 32), known)


def test_a_box_without_its_password_is_another_devices() -> None:
    assert founding.decide([box("c" * 32)], [MINE]) == Elsewhere(box("c" * 32), None)
    assert founding.decide([box("b" * 32)], [ACCOUNT]) == Elsewhere(box("b" * 32), ACCOUNT)
    brought = replace(MINE, username="u1-sub1")  # by a transfer text
    assert founding.decide([box("a" * 32)], [brought]) == Elsewhere(box("a" * 32), None)
    assert founding.decide([box("a" * 32)], [brought, MINE]) == Ours(box("a" * 32), MINE)


def test_of_several_the_one_that_is_known_here_counts_else_they_are_listed() -> None:
    both = [box("a" * 32), box("c" * 32, "other", "u7")]

    assert founding.decide(both, [MINE]) == Ours(both[0], MINE)
    assert founding.decide(both, [MINE], "u7") == Elsewhere(both[1], None)
    with pytest.raises(
        InvalidInputError, match=r"morpheus-registry \(bx11, fsn1, u1\), other \(bx11, fsn1, u7\)"
    ):
        founding.decide(both, [])
    with pytest.raises(InvalidInputError, match="Several"):
        founding.decide(both, [MINE, replace(MINE, registry_id="c" * 32, username="u7")])
    with pytest.raises(InvalidInputError, match="No Storage Box oak holds a registry"):
        founding.decide(both, [MINE], "oak")


def test_passwords_meet_the_policy_and_are_never_the_same() -> None:
    made = [founding.new_password().get_secret_value() for _ in range(200)]

    for each in made:
        check_password(each)
    assert len(set(made)) == 200
    assert keyring.new_key() != keyring.new_key()


def test_the_value_that_proves_a_key_tells_nothing_else() -> None:
    key = keyring.new_key()

    assert keyring.check_value(key) == keyring.check_value(key)
    assert keyring.check_value(key) != keyring.check_value(keyring.new_key())
    assert key.get_secret_value() not in keyring.check_value(key)


# What is kept


def test_nothing_shows_what_is_kept() -> None:
    assert SECRET not in repr(MINE)
    assert KEY not in repr(MINE)


def test_what_is_kept_comes_back_and_is_for_this_user_alone(tmp_path: Any) -> None:
    folder = tmp_path / "data"
    kept.keep(folder, PENDING)
    kept.keep(folder, ACCOUNT)
    kept.keep(folder, MINE)  # takes the place of the pending one

    assert kept.known(folder) == (MINE, ACCOUNT)
    assert (kept.path(folder).stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    kept.keep(folder, replace(MINE, username="u9"))  # another user of the same registry
    assert len(kept.known(folder)) == 3
    kept.forget(folder, MINE)
    assert MINE not in kept.known(folder)


OTHER_HOST = replace(MINE, url="https://nas.example/morpheus/registry.json", password=SecretStr("Bb2-"))
NO_USER = replace(MINE, username=None, password=None, key=None)
BROUGHT = replace(ACCOUNT, registry_id="a" * 32, device=None, password=SecretStr("Bb2-"))
OTHER_PASSWORD, OTHER_KEY = replace(MINE, password=SecretStr("Bb2-")), replace(MINE, key=SecretStr("Bb2-"))


@pytest.mark.parametrize("known", [MINE, PENDING])
@pytest.mark.parametrize("new", [OTHER_HOST, NO_USER, BROUGHT, OTHER_PASSWORD, replace(BROUGHT, key=None)])
def test_no_secret_gives_its_place_to_another(tmp_path: Path, known: Access, new: Access) -> None:
    kept.keep(tmp_path, known)
    kept.keep(tmp_path, new)

    assert kept.known(tmp_path) == (new, known)
    assert kept.key(tmp_path, known.registry_id) == known.key


def test_the_newest_password_and_key_count_and_others_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for each in (MINE, OTHER_KEY, OTHER_PASSWORD, OTHER_PASSWORD):
        kept.keep(tmp_path, each)

    assert kept.known(tmp_path) == (OTHER_PASSWORD, OTHER_KEY, MINE)
    assert kept.password(tmp_path, MINE.url, MINE.username) == OTHER_PASSWORD.password
    sentence = f"it stays in {kept.path(tmp_path)}, and the new one counts"
    assert [each.getMessage().partition(": ")[2] for each in caplog.records] == [sentence] * 2
    assert SECRET not in caplog.text


def test_a_key_stays_with_who_comes_without_one(tmp_path: Path) -> None:
    kept.keep(tmp_path, MINE)
    kept.keep(tmp_path, replace(MINE, key=None))

    assert kept.known(tmp_path) == (MINE,)


def test_only_what_is_meant_is_forgotten(tmp_path: Path) -> None:
    for each in (MINE, OTHER_PASSWORD):
        kept.keep(tmp_path, each)

    kept.forget(tmp_path, replace(MINE, key=None))
    kept.forget_key(tmp_path, OTHER_PASSWORD)

    assert kept.known(tmp_path) == (replace(OTHER_PASSWORD, key=None), MINE)


def test_folders_that_are_made_for_it_are_for_this_user_alone_and_others_stay(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    there.chmod(0o755)

    kept.keep(there / "data" / "access" / "oak", PENDING)
    kept.keep(there, PENDING)

    made = (there / "data", there / "data" / "access", there / "data" / "access" / "oak")
    assert [each.stat().st_mode & 0o777 for each in made] == [0o700] * 3
    assert there.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("url", "username", "known"),
    [
        ("https://u1.example/morpheus/registry.json", "u1", True),
        ("https://u1.example/morpheus/", "u1", True),
        ("u1.example", "u1", True),
        ("https://U1.example/", "u1", True),
        ("https://u1.example:444/", "u1", False),
        ("https://u1.example.evil/", "u1", False),
        ("https://u1.example/", "u2", False),
        ("https://u1.example/", None, False),
        (None, None, False),
    ],
)
def test_a_password_is_given_to_its_host_and_user_alone(
    tmp_path: Any, url: str | None, username: str | None, known: bool
) -> None:
    kept.keep(tmp_path, PENDING)
    kept.keep(tmp_path, MINE)

    assert kept.password(tmp_path, url, username) == (SecretStr(SECRET) if known else None)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"registries": 7}', '{"registries": [{"url": 7}]}', "\xff"]
)
def test_a_file_that_is_broken_is_an_error_and_stays(tmp_path: Any, text: str) -> None:
    kept.path(tmp_path).write_bytes(text.encode("latin-1"))

    with pytest.raises(InvalidInputError, match="cannot be understood"):
        kept.keep(tmp_path, MINE)
    assert kept.path(tmp_path).read_bytes() == text.encode("latin-1")


# The transfer text

texts = st.text(min_size=1)


@given(texts, texts, texts, st.none() | texts)
def test_the_text_brings_what_it_was_made_of(
    registry_id: str, user: str, password: str, key: str | None
) -> None:
    secret = SecretStr(key) if key else None
    access = Access(registry_id, "s3", "https://h/b/r.json", user, SecretStr(password), secret)

    line = transfer.text(access)

    assert "\n" not in line
    assert transfer.understood(line) == access
    assert transfer.understood(f"  {line[:20]}\r\n{line[20:]}\n") == access


def test_the_text_is_found_among_what_was_copied_with_it() -> None:
    line = transfer.text(MINE)
    around = "This line opens the registry to whoever reads it.\n$ morpheus init --export\n{}\nDone\n$ "

    for each in (
        line,
        f"'{line}'",
        f"{line[:50]}\n{line[50:]}",
        f"{line}.",
        f"text: {line}",
        f"{line}\n{line}",
    ):
        assert transfer.understood(around.format(each)) == MINE
    with pytest.raises(InvalidInputError, match="several different transfer texts"):
        transfer.understood(f"{line}\n{transfer.text(PENDING)}")
    with pytest.raises(InvalidInputError, match="not whole"):
        transfer.understood(around.format(line[:-3]))
    with pytest.raises(InvalidInputError, match=r"\(one begins with morpheus1:\)\. Copy the line"):
        transfer.understood("$ morpheus init --export")


@given(st.data())
def test_a_character_that_is_wrong_or_missing_is_noticed(data: st.DataObject) -> None:
    line = transfer.text(MINE)
    at = data.draw(st.integers(0, len(line) - 2))
    other = data.draw(st.sampled_from("ABCxyz019-_:"))
    damaged = data.draw(st.sampled_from([line[:at] + line[at + 1 :], line[:at] + other + line[at + 1 :]]))

    if damaged != line:
        with pytest.raises(InvalidInputError) as refused:
            transfer.understood(damaged)
        assert SECRET not in str(refused.value)
        assert line[20:60] not in str(refused.value)
