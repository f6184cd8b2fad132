"""What opens shared registries and stands in no settings: passwords and keys, kept on this device alone.

They are in one file of the data folder, for this user's eyes only, written before what they open is made: a
password or a key that is lost comes back from nowhere. So nothing in it is replaced by something new.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from morpheus.errors import InvalidInputError, MachineError
from morpheus.files import make_folder, replace_file

NAME = "registry-access.json"


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
    """Everything that is kept in the data *folder*.

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
    return next((each.password for each in known(folder) if each.opens(url, username)), None)


def keep(folder: Path, access: Access) -> None:
    """Keep *access*, in the place of what was known about the same registry and device.

    Raises:
        MachineError: the file cannot be written; it is as it was.
    """
    _write(folder, [*(each for each in known(folder) if not _same(each, access)), access])


def forget(folder: Path, access: Access) -> None:
    """Keep nothing about that registry and device any more; only for what was never used."""
    _write(folder, [each for each in known(folder) if not _same(each, access)])


def with_key(access: Access, key: SecretStr | None) -> Access:
    """*access* with *key* where it has none."""
    return access if access.key else replace(access, key=key)


def _same(one: Access, other: Access) -> bool:
    """Whether both are about one registry and user; who is still to get a user name is the one that will."""
    users = {one.username, other.username} - {None}
    return (one.registry_id, one.device) == (other.registry_id, other.device) and len(users) <= 1


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


def _write(folder: Path, entries: Sequence[Access]) -> None:
    text = json.dumps({"version": 1, "registries": [_raw(each) for each in entries]}, indent=2)
    make_folder(folder)
    try:
        replace_file(path(folder), f"{text}\n".encode())
    except OSError as error:
        raise MachineError(f"Cannot write {path(folder)}: {error.strerror or error}.") from error
