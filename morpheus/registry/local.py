"""A registry in a file of this machine: a lock, and an atomic rename."""

import contextlib
import hashlib
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from morpheus.errors import RegistryBrokenError, RegistryConflictError
from morpheus.files import clear_unfinished, replace_file
from morpheus.registry import BESIDE, KEPT_BACKUPS, Backup, Snapshot
from morpheus.wait import locked

LOCK_TIMEOUT = 30.0  # seconds; the lock of a writer that died is free at once


class LocalStore:
    """The text in one file, its backups in ``<file>.backups/``, both for this user's eyes only.

    Readers take no lock: the file is replaced by a rename, so that they see the old text or the new one.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path))  # so that a link to it stays one, and has the same lock
        self._backups = self._path.with_name(self._path.name + ".backups")

    @property
    def url(self) -> str:
        return self._path.as_uri()

    def read(self) -> Snapshot:
        now = datetime.now(UTC)
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return Snapshot(None, None, now)
        except OSError as error:
            raise _broken("read", self._path, error) from error
        try:
            return Snapshot(text.decode(), _version(text), now)
        except UnicodeDecodeError as error:
            raise RegistryBrokenError(f"The registry {self._path} is no UTF-8 text: {error}.") from error

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        del over  # the document is the file itself: whatever stands in it is its newest version
        data = text.encode()
        with self._replacing(expected):
            replace_file(self._path, data, before=self._keep_backup if backup and expected else None)
        return _version(data)

    def remove(self, expected: str) -> None:
        with self._replacing(expected):
            self._path.unlink()
            if self._backups.exists():
                shutil.rmtree(self._backups)

    @contextlib.contextmanager
    def _replacing(self, expected: str | None) -> Iterator[None]:
        """Alone with the file, of which the version is *expected*."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with locked(self._path.with_name(f".{self._path.name}.lock"), timeout=LOCK_TIMEOUT):
                found = self.read().version
                if found != expected:
                    raise RegistryConflictError(f"Another writer changed {self._path} at the same time.")
                clear_unfinished(self._path)
                yield
        except OSError as error:
            raise _broken("write", self._path, error) from error

    def turn(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def beside(self) -> Sequence[str]:
        return [f"{kind}/{path.stem}" for kind in BESIDE for path in _documents(self._path.parent / kind)]

    def foreign(self) -> str | None:
        return None

    def backups(self) -> Sequence[Backup]:
        found = []
        for path in reversed(self._backup_paths()):
            with contextlib.suppress(OSError):  # pruned meanwhile, or no file
                text = path.read_bytes().decode(errors="replace")
                found.append(Backup(str(path), text, shlex.join(["cp", str(path), str(self._path)])))
        return found

    def _backup_paths(self) -> list[Path]:
        return [path for path in _documents(self._backups) if path.stem.isdecimal()]

    def _keep_backup(self) -> None:
        self._backups.mkdir(exist_ok=True, mode=0o700)
        paths = self._backup_paths()
        number = int(paths[-1].stem) + 1 if paths else 1
        backup = self._backups / f"{number:08}.json"
        try:
            os.link(self._path, backup)  # the rename leaves the old text to this name
        except OSError:  # a file system without links
            shutil.copy(self._path, backup)  # with its mode
        for path in paths[: 1 - KEPT_BACKUPS]:
            path.unlink(missing_ok=True)


def _documents(folder: Path) -> list[Path]:
    """The JSON files in *folder*; none where it is not there.

    Raises:
        RegistryBrokenError: nobody can say what is in it.
    """
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _broken("read", folder, error) from error


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _broken(verb: str, path: Path, error: OSError) -> RegistryBrokenError:
    return RegistryBrokenError(
        f"Cannot {verb} the registry {path}: {error.strerror or error}. Nothing was changed; "
        "mend the file, its folder or the disk and run the command again."
    )
