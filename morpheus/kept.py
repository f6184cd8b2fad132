"""What opens shared registries and stands in no settings: passwords and keys, kept on this device alone.

They are in one file of the data folder, for this user's eyes only, written before what they open is made: a
password or a key that is lost comes back from nowhere. So what is kept stays behind another password or key
of the same registry, and gives its place only to what holds all of it. The newest is first, and counts.
"""

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from morpheus.errors import InvalidInputError, MachineError, StoreBusyError
from morpheus.files import make_folder, replace_file

log = logging.getLogger("morpheus.kept")

NAME = "registry-access.json"
LOCK_TIMEOUT = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Access:
    """How this device gets to one registry.

    ``url`` and ``username`` are None while the Storage Box that is to hold it is not there yet. ``device``
    is the id of this device where it has a subaccount of its own. ``key`` encrypts secrets beside the
    registry (32 bytes as base64); None where it never came to this device.
    """

    registry_id: str
    type: str = "storagebox"
    url: str | None = None
    username: str | None = None
    password: SecretStr | None = None
    key: SecretStr | None = None
    device: str | None = None

    @property
    def is_pending(self) -> bool:
        return self.url is None

    def opens(self, url: str | None, username: str | None) -> bool:
        """Whether its password is that of *username* on the host of *url*."""
        return not self.is_pending and self.username == username and _host(self.url) == _host(url)


def path(folder: Path) -> Path:
    """The file of the data *folder*."""
    return folder / NAME


def known(folder: Path) -> tuple[Access, ...]:
    """Everything that is kept in the data *folder*, the newest first.

    Raises:
        InvalidInputError: the file is there but cannot be read.
    """
    try:
        entries = json.loads(path(folder).read_bytes())["registries"]
        return tuple(_access(each) for each in entries)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise InvalidInputError(f"{path(folder)} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError):  # their texts quote what may be secret
        raise InvalidInputError(
            f"{path(folder)} cannot be understood; it holds the passwords and keys of registries: put a copy "
            "back, or move it away and run morpheus init --import."
        ) from None


def password(folder: Path, url: str | None, username: str | None) -> SecretStr | None:
    """The password of *username* on the host of *url*, where one is kept."""
    opening = (each.password for each in known(folder) if each.opens(url, username))
    return next((each for each in opening if each), None)


def key(folder: Path, registry_id: str) -> SecretStr | None:
    """The key of that registry, where one is kept."""
    return next((each.key for each in known(folder) if each.registry_id == registry_id and each.key), None)


def keep(folder: Path, access: Access) -> None:
    """Keep *access*, with the key that was kept for the same user where it has none.

    Another password or key of the same user is not lost, but stays behind it.

    Raises:
        MachineError: the file cannot be written; it is as it was.
    """
    with _alone(folder):
        entries = known(folder)
        same = [each for each in entries if _same(each, access)]
        access = with_key(access, next((each.key for each in same if each.key), None))
        behind = [each for each in entries if each not in same or not _holds(access, each)]
        _write(folder, [access, *behind])
    if same and same[0] in behind:
        log.warning(
            "another password or key of %s at %s was kept before: it stays in %s, and the new one counts",
            access.username or "the user",
            access.url,
            path(folder),
        )


def forget(folder: Path, access: Access) -> None:
    """Keep exactly *access* no longer; only for what was never used."""
    with _alone(folder):
        _write(folder, [each for each in known(folder) if each != access])


def forget_key(folder: Path, access: Access) -> None:
    """Keep *access* without its key, which was made up for it and never used."""
    with _alone(folder):
        _write(folder, [replace(each, key=None) if each == access else each for each in known(folder)])


def with_key(access: Access, key: SecretStr | None) -> Access:
    """*access* with *key* where it has none."""
    return access if access.key else replace(access, key=key)


def _same(old: Access, new: Access) -> bool:
    """Whether both are about one user of one registry; a box that was to be made is known by its password."""
    if (old.registry_id, old.device) != (new.registry_id, new.device):
        return False
    if old.is_pending:
        return old.password == new.password
    return not new.is_pending and new.opens(old.url, old.username)


def _holds(new: Access, old: Access) -> bool:
    """Whether *new* has every secret that *old* has."""
    return old.password in {None, new.password} and old.key in {None, new.key}


def _host(url: str | None) -> str:
    text = url or ""
    return urlsplit(text if "://" in text else f"https://{text}").netloc.lower()


def _access(raw: dict[str, Any]) -> Access:
    texts = {name: raw.get(name) for name in ("registry_id", "type", "url", "username", "device")}
    if any(each is not None and not isinstance(each, str) for each in texts.values()):
        raise TypeError
    secrets = {name: SecretStr(raw[name]) if raw.get(name) else None for name in ("password", "key")}
    return Access(**texts, **secrets)  # type: ignore[arg-type]  # checked above


def _raw(access: Access) -> dict[str, str]:
    secrets = {"password": access.password, "key": access.key}
    texts = {name: getattr(access, name) for name in ("registry_id", "type", "url", "username", "device")} | {
        name: secret.get_secret_value() for name, secret in secrets.items() if secret
    }
    return {name: text for name, text in texts.items() if text is not None}


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other programs from writing between our look and our own write, whose secrets would be lost.

    Raises:
        StoreBusyError: another one was at it for too long.
    """
    import filelock  # noqa: PLC0415  # reading commands never need it

    make_folder(folder)
    lock = filelock.FileLock(folder / f".{NAME}.lock", timeout=LOCK_TIMEOUT, poll_interval=0.01)
    try:
        with lock:
            yield
    except filelock.Timeout as error:
        raise StoreBusyError(f"Another program is writing {path(folder)}: run this again.") from error
    except OSError as error:
        raise MachineError(f"Cannot write {path(folder)}: {error.strerror or error}.") from error


def _write(folder: Path, entries: Sequence[Access]) -> None:
    text = json.dumps({"version": 1, "registries": [_raw(each) for each in entries]}, indent=2)
    try:
        replace_file(path(folder), f"{text}\n".encode())
    except OSError as error:
        raise MachineError(f"Cannot write {path(folder)}: {error.strerror or error}.") from error
