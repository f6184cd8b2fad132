"""A lab for all tests of this folder, in whose laptop they live, and ways to look at its hosts."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import Host, Lab
from tests.lab.commands import attempted, run, until

UP = 60.0  # seconds until a host has booted, on a busy machine


@dataclass(frozen=True)
class Visitor:
    """Somebody with a key of his own and OpenSSH's client; he believes every host key."""

    private: Path
    public: str

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

    def born(self, host: Host) -> Host:
        """Wait until a host has booted and its cloud-init has ended, however."""
        until(
            f"{host.name} lets in", lambda: self.ssh(host, "true").returncode == 0, timeout=UP, interval=0.05
        )
        self.ssh(host, "cloud-init status --wait")
        return host


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    """The lab; the process lives in its laptop's network meanwhile, with all threads that begin there."""
    lab = Lab()
    try:
        with lab.laptop.entered():
            yield lab
    finally:
        lab.close()


@pytest.fixture(scope="session")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Visitor:
    private = tmp_path_factory.mktemp("visitor") / "key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "visitor", "-f", str(private)])
    return Visitor(private, private.with_suffix(".pub").read_text(encoding="ascii").strip())


Boot = Callable[..., Host]


@pytest.fixture
def boot(lab: Lab, visitor: Visitor) -> Iterator[Boot]:
    """Boot a host that lets the visitor in; it is gone after the test."""

    def booted(name: str = "oak-node-1", **given: object) -> Host:
        host = lab.host(name, **{"ssh_keys": [visitor.public], **given})  # type: ignore[arg-type]  # as given
        host.boot()
        return host

    with lab.cleared():
        yield booted
