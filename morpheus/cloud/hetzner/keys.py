"""The operator's SSH key: found on this machine, known to the API by its fingerprint."""

import base64
import binascii
import contextlib
import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from hcloud.ssh_keys import BoundSSHKey

from morpheus.cloud.hetzner.api import Api, TakenError
from morpheus.errors import InvalidInputError, MissingPartError
from morpheus.settings import SshSettings

USUAL = ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")  # in ~/.ssh
OTHERS = 0o077  # the permissions of everybody but the owner
AGENT_TIMEOUT = 5.0  # seconds


def public_key(settings: SshSettings) -> str:
    """The public key that new nodes let in, as one line: configured, of the agent, or in its usual place.

    Raises:
        InvalidInputError: the configured path holds no public key, nor does the file beside it.
        MissingPartError: there is no key at all.
    """
    return _found(settings)[0]


def _found(settings: SshSettings) -> tuple[str, Path | None]:
    """The public key and its file; None for one of the agent."""
    if settings.key_path:
        path = settings.key_path.expanduser()
        for each in (path.with_name(f"{path.name}.pub"), path):
            if line := _line(each):
                return line, each
        raise InvalidInputError(
            f"machine.ssh.key_path: neither {path}.pub nor {path} holds a public SSH key."
        )
    for line in _of_agent():
        return line, None
    for name in USUAL:
        if line := _line(path := Path.home() / ".ssh" / name):
            return line, path
    raise MissingPartError(
        "There is no SSH key, and without one nobody gets onto a new node: make one with ssh-keygen -t "
        "ed25519, or set machine.ssh.key_path."
    )


def check_key(settings: SshSettings) -> str:
    """Say which key new nodes let in; nobody is asked for a passphrase.

    Raises:
        InvalidInputError: as :func:`public_key`, or its private half is broken or another key's.
        MissingPartError: there is none, or its private half cannot be used without a person.
    """
    line, path = _found(settings)
    if path is None or fingerprint(line) in map(fingerprint, _of_agent()):
        return f"{path or 'the first key of the agent'}: the agent has its private half"
    private = path.with_name(path.name.removesuffix(".pub"))
    if private == path or not private.exists():
        raise MissingPartError(
            f"{path} holds a public key, whose private half is neither there nor in the agent."
        )
    if fingerprint(_public_half(private)) != fingerprint(line):
        raise InvalidInputError(f"{private} is another key than {path}: remove the wrong one.")
    return f"{private} can be loaded"


def _public_half(private: Path) -> str:
    """The public half of the key in the file *private*, which has no passphrase."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  # only a check needs it
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  # only a check needs it

    try:
        if private.stat().st_mode & OTHERS:
            raise InvalidInputError(
                f"{private} may be read by others, so SSH refuses it: chmod 600 {private}"
            )
        key = serialization.load_ssh_private_key(private.read_bytes(), password=None)
    except TypeError as error:
        raise MissingPartError(
            f"{private} has a passphrase, and the agent does not know it: ssh-add {private}"
        ) from error
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInputError(f"{private} cannot be loaded: {' '.join(str(error).split())}.") from error
    form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return key.public_key().public_bytes(*form).decode()


def fingerprint(line: str) -> str:
    """The MD5 fingerprint of a public key, by which the API knows it.

    Raises:
        ValueError: *line* is no public key.
    """
    try:
        kind, data, *_ = line.split()
        blob = base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error) as error:
        raise ValueError("no public key") from error
    length = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + length].decode("ascii", errors="replace") != kind:
        raise ValueError("no public key")
    digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    return ":".join(digest[k : k + 2] for k in range(0, len(digest), 2))


def ensure_key(api: Api, settings: SshSettings) -> BoundSSHKey:
    """The key in the project, whatever it is called there; uploaded when missing, never changed."""
    line = public_key(settings)
    mark = fingerprint(line)
    if known := _known(api, mark):
        return known
    short = mark.replace(":", "")[:8]
    for name in (settings.key_name or f"morpheus-{short}", f"{settings.key_name or 'morpheus'}-{short}-2"):
        with contextlib.suppress(TakenError), api.call(f"upload the SSH key {name}"):
            return api.client.ssh_keys.create(name=name, public_key=line)
        if known := _known(api, mark):  # another device was faster; else the name is another key's
            return known
    raise InvalidInputError(
        f"machine.ssh.key_name: {settings.key_name} is another key's name in the project; choose another."
    )


def _known(api: Api, mark: str) -> BoundSSHKey | None:
    with api.call("find the SSH key"):
        return api.client.ssh_keys.get_by_fingerprint(mark)


def _line(path: Path) -> str | None:
    """The public key in the file *path*; None where there is none."""
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                fingerprint(line)
                return line.strip()
    return None


def _of_agent() -> Iterator[str]:
    if not os.environ.get("SSH_AUTH_SOCK"):
        return
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(
            ["ssh-add", "-L"],  # noqa: S607  # the one on the operator's PATH
            capture_output=True,
            text=True,
            timeout=AGENT_TIMEOUT,
            check=True,
        )
        for line in answer.stdout.splitlines():
            with contextlib.suppress(ValueError):
                fingerprint(line)
                yield line.strip()
