"""A host's disk: an overlay in memory on a base system, of which it keeps only what it changed."""

import os
import shutil
from pathlib import Path

from tests.lab.commands import attempted, run, until
from tests.lab.leftovers import unmount_all

SIZE = 4 * 2**30  # bytes; of memory only what is written is used


class Disk:
    def __init__(self, folder: Path, size: int = SIZE) -> None:
        """*folder* is its own, and not there yet."""
        self.folder, self.size = folder, size

    @property
    def root(self) -> Path:
        """Where the host's files are to be seen, while it runs and while it does not."""
        return self.folder / "root"

    def create(self, base: Path) -> None:
        """Make it, empty but for what is on the base."""
        changes = self.folder / "changes"
        for folder in (changes, self.root):
            folder.mkdir(parents=True)
        run(["mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", str(changes)])
        upper, work = changes / "upper", changes / "work"
        upper.mkdir()
        work.mkdir()
        layers = f"lowerdir={base},upperdir={upper},workdir={work}"
        run(["mount", "-t", "overlay", "overlay", "-o", layers, str(self.root)])

    def delete(self) -> None:
        unmount_all(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def fill(self) -> None:
        """Leave not one byte; what is written meanwhile is as large as it is."""
        until("the disk is full", lambda: self._resize(self._used) and self._free == 0)

    def fill_to(self, percent: float) -> None:
        """Leave as much as that what is on it now is so many percent of it all."""
        assert self._resize(int(self._used * 100 / percent))

    @property
    def _used(self) -> int:
        usage = os.statvfs(self.folder / "changes")
        return (usage.f_blocks - usage.f_bfree) * usage.f_frsize

    @property
    def _free(self) -> int:
        return os.statvfs(self.folder / "changes").f_bfree

    def free(self) -> None:
        """Give it its size back."""
        assert self._resize(self.size)

    def _resize(self, size: int) -> bool:
        done = attempted(["mount", "-o", f"remount,size={size}", str(self.folder / "changes")])
        return done.returncode == 0
