"""OpenSSH's own server on loopback, as whoever runs the tests, with programs in the place of systemd's.

It reads nothing of this machine's own SSH: its settings, keys and the folder of its sessions are the test's.
"""

import contextlib
import os
import pwd
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncssh
import psutil
from pydantic import SecretStr

from morpheus.machine import Layout, Program
from morpheus.machine.ssh import Connections, SshMachine, SshNode, Way
from morpheus.machine.ssh.machine import unit_of
from morpheus.wait import wait_until
from tests.servers import free_port

SSHD = Path("/usr/sbin/sshd")
INSTALL = "on Debian, apt install openssh-server"
PROGRAMS = Path(__file__).parent / "systemd"
CONFIG = """
Include {folder}/sshd_config.d/*.conf
Port {port}
ListenAddress {address}
HostKey {folder}/ssh_host_ed25519_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel VERBOSE
SetEnv PATH={programs}:/usr/sbin:/usr/bin:/sbin:/bin HOME={folder} MORPHEUS_UNITS={folder}/units
"""


@dataclass
class Sshd:
    """A server that runs. ``folder`` stands for the machine's disk, with /etc/ssh in it."""

    folder: Path
    port: int
    key: SecretStr
    host_key: str
    address: str = "127.0.0.1"
    process: subprocess.Popen[bytes] | None = None
    user: str = field(default_factory=lambda: pwd.getpwuid(os.getuid()).pw_name)

    @property
    def way(self) -> Way:
        return Way(self.address, (self.host_key,), self.port, self.user)

    @property
    def layout(self) -> Layout:
        root = self.folder / "disk"
        return Layout(f"{root}/nats.conf", f"{root}/cluster.conf", f"{root}/store", f"{root}/nats.log")

    def machine(self, connections: Connections, **changes: object) -> SshMachine:
        way = replace(self.way, **changes)  # type: ignore[arg-type]  # the fields of a way
        return SshMachine("oak-node-1", connections, way, self.layout)

    @property
    def log(self) -> str:
        return (self.folder / "sshd.log").read_text()

    @property
    def sessions(self) -> int:
        """How many connections are entered just now."""
        assert self.process
        return len(psutil.Process(self.process.pid).children())

    def start(self) -> None:
        """Start it, and return when it listens."""
        assert SSHD.exists(), f"this needs OpenSSH's server: {INSTALL}"
        arguments = ["-D", "-f", str(self.folder / "sshd_config"), "-E", str(self.folder / "sshd.log")]
        self.process = subprocess.Popen([SSHD, *arguments])
        reload = self.folder / "units" / "ssh.service"
        reload.write_text(f"#!/bin/sh\nkill -HUP {self.process.pid}\n")
        reload.chmod(0o755)
        wait_until("sshd", self.listens, bool, lambda _: "not yet", timeout=30, interval=0.005)

    def listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), timeout=1):
            return True
        return False

    def stop(self) -> None:
        """End it and every connection, as a machine that is switched off."""
        if self.process is None:
            return
        for each in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.kill()
        self.process.wait(timeout=30)
        self.process = None


class BornMachine(SshNode):
    """A machine whose units are written when they are first started; else cloud-init writes them at birth."""

    def __init__(self, server: Sshd, connections: Connections) -> None:
        super().__init__("oak-node-1", connections, server.way, server.layout)
        self._folder = server.folder

    def start(self, program: Program) -> None:
        unit = self._folder / "units" / unit_of(program.name)
        settings = Path(self.layout.config).parent / f"{unit.stem}.env"
        unit.write_text(f"#!/bin/sh\nset -a; . {settings}; set +a\nexec {shlex.join(program.argv)}\n")
        unit.chmod(0o755)
        super().start(program)


@contextlib.contextmanager
def born_machine(folder: Path) -> Iterator[BornMachine]:
    """A machine behind an sshd of its own."""
    with sshd(folder) as server, Connections(server.key) as connections:
        yield BornMachine(server, connections)


def new_key() -> tuple[SecretStr, str]:
    """A private key as OpenSSH text, and its public line."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    public = " ".join(key.export_public_key().decode().split()[:2])
    return SecretStr(key.export_private_key().decode()), public


def make_host_key(path: Path) -> str:
    """Put a new host key into the file *path*; return its public line."""
    private, public = new_key()
    path.touch(mode=0o600)
    path.write_text(private.get_secret_value())
    return public


@contextlib.contextmanager
def sshd(folder: Path, address: str = "127.0.0.1", port: int | None = None) -> Iterator[Sshd]:
    """Run sshd with a disk of its own below *folder*."""
    for each in ("sshd_config.d", "units", "disk"):
        (folder / each).mkdir(parents=True)
    key, public = new_key()
    server = Sshd(folder, port or free_port(), key, make_host_key(folder / "ssh_host_ed25519_key"), address)
    (folder / "authorized_keys").write_text(public + "\n")
    config = CONFIG.format(folder=folder, port=server.port, address=address, programs=PROGRAMS)
    (folder / "sshd_config").write_text(config)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it when root starts it
    server.start()
    try:
        yield server
    finally:
        server.stop()
        for unit in (folder / "units").glob("*.service"):
            environment = os.environ | {"MORPHEUS_UNITS": str(folder / "units")}
            subprocess.run([str(PROGRAMS / "systemctl"), "stop", unit.name], env=environment, check=True)
        shutil.rmtree(folder)
