"""A disk that is really full: what root can arrange with a small file system."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from morpheus.errors import RegistryBrokenError
from morpheus.forest import Forest
from morpheus.registry import Registry
from morpheus.registry.local import LocalStore
from morpheus.site import local_registry

pytestmark = pytest.mark.root

SIZE = 8 * 2**20  # bytes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave not one byte in *folder*."""
    with (folder / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"x" * 4096)
        except OSError:
            os.fsync(filler.fileno())


def test_a_full_disk_changes_nothing_in_the_registry(small_disk: Path) -> None:
    registry = Registry(LocalStore(small_disk / "local.json"))
    registry.update(lambda document, _: document.with_forest(Forest("oak")))
    before = (small_disk / "local.json").read_bytes()
    fill(small_disk)

    with pytest.raises(RegistryBrokenError, match="No space left"):
        registry.update(lambda document, _: document.with_forest(Forest("elm", location="x" * 9000)))

    assert (small_disk / "local.json").read_bytes() == before
    assert not list(small_disk.glob(".local.json.*.new"))
    assert list(registry.read().forests) == ["oak"]


def test_planting_on_a_full_disk_says_so_and_leaves_nothing(small_disk: Path) -> None:
    environment = {**os.environ, "MORPHEUS_DATA_DIR": str(small_disk / "data")}
    environment["PREFECT_HOME"] = str(small_disk.parent / "prefect")
    fill(small_disk)

    done = subprocess.run(
        [sys.executable, "-c", "from morpheus.cli import main; main()", "plant", "local", "small"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert done.returncode == 1
    assert "disk" in done.stderr
    assert "Traceback" not in done.stderr
    assert not local_registry(small_disk / "data").read().forests
