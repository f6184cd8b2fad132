"""Writing a file whole or not at all, for this user's eyes only unless told otherwise."""

import glob
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from morpheus.errors import MachineError

NEW = ".new"  # how the names of files under way end


def replace_file(
    path: Path, content: bytes, *, mode: int = 0o600, before: Callable[[], None] | None = None
) -> None:
    """Make *path* hold *content*, durably; readers see the old file or the new one.

    Its folder has to be there: one that was removed meanwhile does not come back with half its files.

    *before* is called when nothing but the rename is left to do.

    Raises:
        OSError: it could not be written; *path* is as it was, and nothing is left beside it.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=NEW, dir=path.parent)
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if before:
            before()
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def make_folder(path: Path) -> None:
    """Make *path* and the folders above it that lack, for this user's eyes only; one that is there stays so.

    Raises:
        MachineError: it cannot be made.
    """
    try:
        lacking = [each for each in path.parents if not each.exists()]
        for each in (*reversed(lacking), path):  # pathlib makes those above with the usual mode
            each.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise MachineError(f"Cannot make the folder {path}: {error.strerror or error}.") from error


def is_unfinished(new: Path, path: Path) -> bool:
    """Whether *new* is what a writer of *path* that was killed left."""
    return new.parent == path.parent and new.name.startswith(f".{path.name}.") and new.name.endswith(NEW)


def clear_unfinished(path: Path) -> None:
    """Remove what writers of *path* that were killed left; only for who knows that nobody writes now."""
    for new in path.parent.glob(f".{glob.escape(path.name)}.*{NEW}"):
        new.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Make a rename in *folder* survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
