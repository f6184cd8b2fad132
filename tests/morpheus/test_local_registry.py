"""The registry in a local file: many processes, killed writers, and files that must not be trusted."""

import contextlib
import json
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from morpheus.errors import RegistryBrokenError
from morpheus.forest import Forest
from morpheus.registry import Registry
from morpheus.registry.local import LocalStore
from morpheus.wait import wait_until

WRITERS, UPDATES = 8, 50
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.json"


@pytest.fixture
def registry(path: Path) -> Registry:
    return Registry(LocalStore(path))


def plant(registry: Registry, name: str) -> None:
    registry.update(lambda document, _: document.with_forest(Forest(name)))


def forget(registry: Registry, name: str) -> None:
    registry.update(lambda document, _: document.without_forest(name))


# Many processes


class Writers:
    """Real processes that write to one registry; each keeps a log of what was acknowledged."""

    def __init__(self, path: Path, count: int) -> None:
        self.logs = [path.with_name(f"log-{k}") for k in range(count)]
        self.processes = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.morpheus.writer",
                    str(path),
                    str(log),
                    str(1000 * k),
                    str(UPDATES),
                ],
                cwd=ROOT,
            )
            for k, log in enumerate(self.logs)
        ]

    def acknowledged(self, k: int) -> list[int]:
        log = self.logs[k]
        return [int(line) for line in log.read_text().splitlines()] if log.exists() else []

    def running(self) -> bool:
        return any(process.poll() is None for process in self.processes)

    def join(self) -> list[int]:
        return [process.wait(timeout=100) for process in self.processes]


@contextlib.contextmanager
def writing(path: Path, count: int) -> Iterator[Writers]:
    writers = Writers(path, count)
    try:
        yield writers
    finally:
        for process in writers.processes:
            process.kill()
            process.wait()


def recorded(path: Path) -> list[int]:
    return list(Registry(LocalStore(path)).read().forests["oak"].used_numbers)


@pytest.mark.long
def test_no_update_of_many_processes_is_lost(path: Path) -> None:
    with writing(path, WRITERS) as writers:
        assert writers.join() == [0] * WRITERS

    numbers = recorded(path)
    assert len(numbers) == WRITERS * UPDATES
    assert sorted(numbers) == sorted(1000 * k + n for k in range(WRITERS) for n in range(UPDATES))
    assert Registry(LocalStore(path)).read().revision == WRITERS * UPDATES


@pytest.mark.long
def test_a_killed_writer_loses_nothing_that_was_acknowledged(path: Path) -> None:
    with writing(path, WRITERS) as writers:
        wait_until(
            "the first writer's tenth update",
            lambda: len(writers.acknowledged(0)),
            lambda count: count >= 10,
            str,
            timeout=60,
            interval=0.001,
        )
        writers.processes[0].kill()
        codes = writers.join()

    numbers = recorded(path)
    acknowledged = [number for k in range(WRITERS) for number in writers.acknowledged(k)]
    assert codes == [-9] + [0] * (WRITERS - 1)
    assert len(writers.acknowledged(0)) < UPDATES
    assert len(numbers) == len(set(numbers))
    assert set(acknowledged) <= set(numbers)
    assert len(set(numbers) - set(acknowledged)) <= 1


def test_readers_never_see_a_torn_document(path: Path) -> None:
    revisions = []
    with writing(path, 2) as writers:
        while writers.running():
            with contextlib.suppress(FileNotFoundError):
                revisions.append(json.loads(path.read_bytes())["revision"])
        assert writers.join() == [0, 0]

    assert revisions == sorted(revisions)
    assert len(set(revisions)) > 10


# Files that must not be trusted


@pytest.fixture
def good_backup(registry: Registry, path: Path) -> Path:
    """A registry with two forests, its newest good backup, and newer ones that are broken."""
    plant(registry, "oak")
    plant(registry, "elm")
    backups = path.with_name("registry.json.backups")
    good = max(backups.iterdir())
    (backups / "00000098.json").write_text('{"forests": {"oak"')
    (backups / "00000099.json").write_bytes(b"\xff\xfe")
    return good


BROKEN = {
    "empty": b"",
    "blank": b" \n",
    "truncated": b'{"version": 1, "forests": {"oak": {"id": "o',
    "not JSON": b"<html>403</html>",
    "too deep": b"[" * 100_000,
    "not UTF-8": b'{"forests": {}, "nodes": "\xff"}',
    "a list": b"[]",
    "a number": b"7",
    "neither forests nor nodes": b'{"version": 1}',
    "forests of another kind": b'{"forests": [1]}',
    "a size of another kind": b'{"forests": {"oak": {"size": 3}}}',
    "emptied by another program": b'{"version": 1, "forests": {}, "nodes": {}}',
    "emptied but for a name": b'{"forests": {}, "nodes": {"oak": []}}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_refused_and_the_newest_good_backup_named(
    registry: Registry, path: Path, good_backup: Path, content: bytes
) -> None:
    path.write_bytes(content)

    with pytest.raises(RegistryBrokenError) as refused:
        registry.read()

    command = f"cp {good_backup} {path}"
    assert str(refused.value).endswith(f"put the newest good backup back: {command}")
    subprocess.run(shlex.split(command), check=True)
    assert set(registry.read().forests) == {"oak"}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_never_written_over(
    registry: Registry, path: Path, good_backup: Path, content: bytes
) -> None:
    path.write_bytes(content)

    with pytest.raises(RegistryBrokenError):
        plant(registry, "ash")

    assert path.read_bytes() == content


def test_a_folder_in_its_place_is_refused_and_the_backup_named(
    registry: Registry, path: Path, good_backup: Path
) -> None:
    path.unlink()
    path.mkdir()

    with pytest.raises(RegistryBrokenError) as refused:
        registry.read()

    assert "Is a directory" in str(refused.value)
    assert str(good_backup) in str(refused.value)


def test_a_missing_file_is_refused_while_there_are_backups(
    registry: Registry, path: Path, good_backup: Path
) -> None:
    path.unlink()

    with pytest.raises(RegistryBrokenError, match="is gone") as refused:
        plant(registry, "ash")

    assert str(good_backup) in str(refused.value)
    assert not path.exists()


def test_a_registry_put_back_from_the_named_backup_works_again(
    registry: Registry, path: Path, good_backup: Path
) -> None:
    path.write_bytes(good_backup.read_bytes())

    plant(registry, "ash")

    assert set(registry.read().forests) == {"oak", "ash"}


def test_the_command_that_puts_a_backup_back_is_whole_whatever_the_path(tmp_path: Path) -> None:
    path = tmp_path / "Ann's data; $HOME" / "registry.json"
    registry = Registry(LocalStore(path))
    plant(registry, "oak")
    plant(registry, "elm")
    path.unlink()

    with pytest.raises(RegistryBrokenError) as refused:
        registry.read()
    subprocess.run(["/bin/sh", "-c", str(refused.value).rpartition("back: ")[2]], check=True)

    assert set(registry.read().forests) == {"oak"}


def test_a_path_below_a_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    registry = Registry(LocalStore(tmp_path / "file" / "registry.json"))

    with pytest.raises(RegistryBrokenError, match=r"Not a directory.*no good backup"):
        registry.read()
    with pytest.raises(RegistryBrokenError, match=r"file/registry\.json"):
        plant(registry, "oak")


def test_a_broken_file_without_backups_says_so(registry: Registry, path: Path) -> None:
    path.write_text("{")

    with pytest.raises(RegistryBrokenError, match="there is no good backup"):
        registry.read()


def test_an_empty_registry_after_our_own_teardown_is_fine(registry: Registry) -> None:
    plant(registry, "oak")
    forget(registry, "oak")

    assert registry.read().forests == {}
    plant(registry, "elm")
    assert set(registry.read().forests) == {"elm"}


# The files themselves


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_only_its_user_can_read_the_registry_and_its_backups(
    registry: Registry, path: Path, no_umask: None
) -> None:
    plant(registry, "oak")
    plant(registry, "elm")

    files = [path, *path.with_name("registry.json.backups").iterdir()]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 2


def test_what_an_interrupted_writer_left_is_cleared(registry: Registry, path: Path) -> None:
    left = path.with_name(".registry.json.k1ll3d.new")
    left.write_text("half a docu")

    plant(registry, "oak")

    assert not left.exists()
    assert sorted(each.name for each in path.parent.iterdir()) == [".registry.json.lock", "registry.json"]


def test_the_newest_twenty_backups_are_files_beside_it(registry: Registry, path: Path) -> None:
    for k in range(30):
        plant(registry, f"oak-{k}")

    names = sorted(each.name for each in path.with_name("registry.json.backups").iterdir())
    assert names == [f"{k:08}.json" for k in range(10, 30)]


def test_a_copy_that_a_person_left_among_the_backups_disturbs_nothing(registry: Registry, path: Path) -> None:
    plant(registry, "oak")
    plant(registry, "elm")
    (path.with_name("registry.json.backups") / "00000001 copy.json").write_text("mine")
    (path.with_name("registry.json.backups") / "00000007.json").mkdir()

    plant(registry, "ash")

    assert len(registry.read().forests) == 3
    assert len(LocalStore(path).backups()) == 2


def test_a_link_to_the_registry_stays_a_link(registry: Registry, path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "linked.json"
    link.symlink_to(path)
    plant(Registry(LocalStore(link)), "oak")

    plant(registry, "elm")

    assert link.is_symlink()
    assert set(Registry(LocalStore(link)).read().forests) == {"oak", "elm"}
