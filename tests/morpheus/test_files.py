"""A file is written whole or not at all."""

import stat
from pathlib import Path

import pytest

from morpheus.files import clear_unfinished, make_folder, replace_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_and_its_folders_are_made_for_this_user_only(tmp_path: Path) -> None:
    path = tmp_path / "data" / "file"

    make_folder(path.parent)
    replace_file(path, b"one")

    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_folder_that_is_gone_does_not_come_back_with_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "gone" / "file", b"one")

    assert not (tmp_path / "gone").exists()


def test_the_mode_is_the_one_asked_for(tmp_path: Path) -> None:
    replace_file(tmp_path / "file", b"", mode=0o755)

    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o755


def test_a_write_that_fails_at_the_last_moment_changes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"one")

    def fail() -> None:
        assert path.read_bytes() == b"one"
        assert len(list(tmp_path.iterdir())) == 2
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011  # ours
        replace_file(path, b"two", before=fail)

    assert path.read_bytes() == b"one"
    assert names(tmp_path) == ["file"]


def test_only_unfinished_writes_of_that_file_are_cleared(tmp_path: Path) -> None:
    for name in (".[a].json.1.new", ".a.json.1.new", "[a].json", "[a].json.new"):
        (tmp_path / name).touch()

    clear_unfinished(tmp_path / "[a].json")

    assert names(tmp_path) == [".a.json.1.new", "[a].json", "[a].json.new"]
