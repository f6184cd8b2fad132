"""Who may enter a forest: the nkeys of its application and system accounts, and its route password."""

import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from morpheus.errors import MachineError
from morpheus.files import make_folder, replace_file
from morpheus.forest import check_name


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """The secrets of one forest; seeds as NATS writes them (``SU...``). Never shown by repr."""

    app_seed: str
    system_seed: str
    route_password: str

    @property
    def app_key(self) -> str:
        """The application user's public key."""
        return _public(self.app_seed)

    @property
    def system_key(self) -> str:
        """The system user's public key."""
        return _public(self.system_seed)


def generate() -> Access:
    return Access(_seed(), _seed(), secrets.token_urlsafe(24))


def _seed() -> str:
    import nkeys  # noqa: PLC0415  # reading commands never need it

    return str(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode())


def _public(seed: str) -> str:
    import nkeys  # noqa: PLC0415  # reading commands never need it

    return str(nkeys.from_seed(bytearray(seed.encode())).public_key.decode())


class AccessFolder:
    """The secrets of this machine's forests: one folder each, files for this user's eyes only.

    The seeds stand in files of their own too, because the ``nats`` command takes a path.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def seed_file(self, forest: str, *, system: bool) -> Path:
        return self._folder(forest) / ("system.nk" if system else "app.nk")

    def lay(self, forest: str, name: str, text: str) -> Path:
        """Put *text*, a secret or what goes with one, into the file *name* for programs that take a path."""
        path = self._folder(forest) / name
        make_folder(path.parent)
        try:
            replace_file(path, text.encode())
        except OSError as error:
            raise MachineError(f"Cannot write {path}: {error.strerror or error}.") from error
        return path

    def _folder(self, forest: str) -> Path:
        return self._root / check_name(forest)

    def ensure(self, forest: str) -> Access:
        """Return the secrets of *forest*, made now if there are none."""
        known = self.find(forest)
        if known:
            return known
        access = generate()
        make_folder(self._folder(forest))
        try:
            replace_file(self.seed_file(forest, system=False), access.app_seed.encode())
            replace_file(self.seed_file(forest, system=True), access.system_seed.encode())
            replace_file(
                self._folder(forest) / "access.json", json.dumps(asdict(access)).encode()
            )  # last: all or nothing
        except OSError as error:
            raise MachineError(f"Cannot write the secrets of {forest}: {error.strerror or error}.") from error
        return access

    def find(self, forest: str) -> Access | None:
        try:
            return Access(**json.loads((self._folder(forest) / "access.json").read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise MachineError(f"Cannot read the secrets of {forest}: {error}.") from error

    def forget(self, forest: str) -> None:
        """Remove the secrets of *forest*, if there are any."""
        shutil.rmtree(self._folder(forest), ignore_errors=True)
