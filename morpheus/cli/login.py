"""Logging in with OpenSSH's own client: it knows the recorded host keys alone, and the forest's key."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from morpheus.cli import signals
from morpheus.cli.looking import nodes_meant
from morpheus.cli.reaching import reached
from morpheus.errors import InvalidInputError, MachineError, MissingPartError, UnreachableError
from morpheus.machine.ssh import Way
from morpheus.site import Found

FAILED = 255  # what ssh ends with when it was ssh that failed


def log_in(found: Found, node: str | None) -> int:
    """Hand the terminal over to a shell on the machine of *node*, or of the only one; its exit code.

    Raises:
        InvalidInputError: there are several nodes, and none is named.
        MissingPartError: this computer has no ssh.
        RefusedError, UnreachableError, MachineError: the machine does not let us in; says why.
    """
    one, *more = nodes_meant(found.forest, node)
    if more:
        name, labels = found.forest.name, ", ".join(each.label for each in more)
        raise InvalidInputError(
            f"{name} has {1 + len(more)} nodes: log in to one with morpheus ssh {name} {one.label} (or "
            f"{labels}), or run a command on all of them with morpheus ssh {name} -- COMMAND"
        )
    program = shutil.which("ssh")
    if program is None:
        raise MissingPartError(
            "The program ssh is not installed here: install OpenSSH's client (on Debian: apt install "
            "openssh-client), or run single commands with morpheus ssh NAME NODE -- COMMAND, which need none."
        )
    with reached(found) as reach:
        machine = reach.machine(one)
        machine.connection.shown(machine.way)  # who is let in; why not, this tells better than ssh
        name, way, key = machine.name, machine.way, reach.secrets.ssh_key
    with _identity(key) as folder:
        command = [program, *_options(folder, name, way), "--", way.address]
        (folder / "known_hosts").write_text("".join(f"{name} {each}\n" for each in way.host_keys))
        code = subprocess.run(command, check=False).returncode
    if code == FAILED:
        raise UnreachableError(f"The session on {name} ended with an error of ssh.")
    return 128 - code if code < 0 else code


def _options(folder: Path, name: str, way: Way) -> list[str]:
    """The options by which ssh uses nothing but what is in *folder*; it removes the key when it is in."""
    key, hosts = folder / "key", str(folder / "known_hosts").replace("%", "%%")
    options = {
        "IdentityFile": f'"{str(key).replace("%", "%%")}"',
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "CertificateFile": "none",
        "PreferredAuthentications": "publickey",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": f'"{hosts}"',
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": name,
        "HostKeyAlgorithms": "ssh-ed25519",
        "UpdateHostKeys": "no",
        "VerifyHostKeyDNS": "no",
        "CanonicalizeHostname": "no",
        "ControlPath": "none",
        "ForwardAgent": "no",
        "ServerAliveInterval": "5",
        "ConnectTimeout": "10",
        "PermitLocalCommand": "yes",
        "LocalCommand": f"rm -f {shlex.quote(str(key)).replace('%', '%%')}",
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    return ["-F", "/dev/null", *words, "-p", str(way.port), "-l", way.user]


@contextlib.contextmanager
def _identity(key: str) -> Iterator[Path]:
    """A folder of this user's own with the private key in a file; both are gone afterwards."""
    with _hangups_raise(), contextlib.ExitStack() as stack:
        try:
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="morpheus-ssh-", dir=_memory()))
            )
            descriptor = os.open(folder / "key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(key)
        except OSError as error:
            raise MachineError(
                f"There is no place for the key while ssh starts: {error.strerror or error}. Set TMPDIR to a "
                "folder you may write to."
            ) from error
        yield folder


def _memory() -> str | None:
    """A folder that is never written to a disk, where there is one."""
    folder = os.environ.get("XDG_RUNTIME_DIR", "")
    return folder if folder and os.access(folder, os.W_OK | os.X_OK) else None


@contextlib.contextmanager
def _hangups_raise() -> Iterator[None]:
    """A terminal that is closed ends the block as SIGTERM does, so that the key does not stay behind."""
    before = signal.getsignal(signal.SIGHUP)
    if before is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGHUP, signals.terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
