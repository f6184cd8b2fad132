"""People who come to a host over the network, and what they meet."""

import errno
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.lab.commands import attempted, run, until
from tests.lab.hosts import Host

NOT_ENTERED = 255  # what OpenSSH's client ends with when it comes to nothing
UP = 60.0  # seconds until a host has booted, on a busy machine


class Knock(StrEnum):
    """What a port does to somebody who knocks."""

    OPEN = "open"
    REFUSED = "refused"
    SILENT = "silent"
    UNREACHABLE = "unreachable"


def knock(address: str, port: int = 22, timeout: float = 2) -> Knock:
    """Knock from where the current thread lives."""
    try:
        socket.create_connection((address, port), timeout=timeout).close()
    except ConnectionRefusedError:
        return Knock.REFUSED
    except TimeoutError:
        return Knock.SILENT
    except OSError as error:
        if error.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            raise
        return Knock.UNREACHABLE
    return Knock.OPEN


@dataclass(frozen=True)
class Visitor:
    """Somebody with a key of his own and OpenSSH's client; he believes every host key."""

    private: Path
    public: str

    @classmethod
    def with_new_key(cls, folder: Path) -> "Visitor":
        private = folder / "key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "visitor", "-f", str(private)])
        return cls(private, private.with_suffix(".pub").read_text(encoding="ascii").strip())

    def ssh(self, host: Host, command: str, timeout: float = 5) -> subprocess.CompletedProcess[str]:
        """Run a command as root, however it ends; 255 and what the client says when it cannot."""
        options = [
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "BatchMode=yes",
        ]
        quick = ["-o", f"ConnectTimeout={timeout:.0f}", "-o", "LogLevel=ERROR"]
        return attempted(["ssh", "-i", str(self.private), *options, *quick, f"root@{host.address}", command])

    def ssh_with_password(self, host: Host, password: str) -> subprocess.CompletedProcess[str]:
        """Log in as root without a key, however that ends."""
        teller = self.private.with_name("teller")
        teller.write_text(f"#!/bin/sh\necho '{password}'\n", encoding="ascii")
        teller.chmod(0o700)
        asks = ["env", f"SSH_ASKPASS={teller}", "SSH_ASKPASS_REQUIRE=force", "ssh"]
        alone = ["-o", "PreferredAuthentications=password", "-o", "StrictHostKeyChecking=no"]
        nowhere = ["-o", "UserKnownHostsFile=/dev/null", "-o", "NumberOfPasswordPrompts=1"]
        return attempted([*asks, *alone, *nowhere, f"root@{host.address}", "true"])

    def born(self, host: Host) -> Host:
        """Wait until a host has booted and its cloud-init has ended, however."""
        self._wait(f"{host.name} is there", lambda: knock(host.address) is Knock.OPEN)
        self._wait(f"{host.name} lets in", lambda: self.ssh(host, "true").returncode == 0)
        # cloud-init starts sshd anew in mid-birth: who comes just then is sent away, and comes again.
        ended = "cloud-init status --wait"
        self._wait(f"{host.name} is born", lambda: self.ssh(host, ended).returncode != NOT_ENTERED)
        return host

    def _wait(self, what: str, ask: Callable[[], bool]) -> None:
        until(what, ask, timeout=UP, interval=0.03)
