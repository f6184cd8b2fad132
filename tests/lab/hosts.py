"""Hosts: whole Debian systems, each with its own disk, its own line and systemd as its first process.

A host runs in systemd-nspawn, which ends with it. SIGTERM to it is the power button, the end of all processes
of its cgroup a power cut: the line goes first, so that nobody hears from the dying.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import seed
from tests.lab.bases import base
from tests.lab.commands import attempted, until
from tests.lab.disks import Disk
from tests.lab.faults import BirthFaults
from tests.lab.firewall import Firewalls
from tests.lab.leftovers import cgroup_roots, end_cgroups
from tests.lab.namespaces import Namespace
from tests.lab.network import Line, Network
from tests.simulator.hosts import Birth

WANTS_REBOOT = 133  # the status systemd-nspawn ends with when the guest rebooted
POWER_OFF = 30.0  # seconds until a host that does not obey is cut off
NSPAWN = [
    "--boot",
    "--register=no",
    "--keep-unit",
    "--resolv-conf=off",
    "--timezone=off",
    "--link-journal=no",
    "--console=pipe",
    "--capability=CAP_NET_ADMIN,CAP_SYS_RESOURCE,CAP_IPC_LOCK",
]
ENVIRONMENT = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"}
# The process puts itself where it is to be found, before anything else of it exists.
SPAWN = 'for door in $1; do echo $$ > "$door/cgroup.procs"; done; shift; exec "$@"'


@dataclass(frozen=True)
class Place:
    """What a host is made of and connected to; ``mark`` tells it from the others of its run."""

    run: str
    mark: str
    folder: Path
    network: Network
    firewalls: Firewalls
    line: Line


class Host:
    """One machine. Its methods return when what they say is so; one at a time is done."""

    def __init__(self, birth: Birth, place: Place, disk: Disk, faults: BirthFaults) -> None:
        self.birth, self.place, self.disk, self.faults = birth, place, disk, faults
        self.console = place.folder / f"{place.mark}.console"
        self.namespace = Namespace(f"{place.run}-{place.mark}")
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self.stopped_itself = False

    @property
    def name(self) -> str:
        return self.birth.name

    @property
    def line(self) -> Line:
        return self.place.line

    @property
    def address(self) -> str:
        """Its IPv6 address; without any, its IPv4 address."""
        address = self.line.address or self.line.ipv4
        assert address
        return address

    # Power

    @property
    def is_on(self) -> bool:
        return self._process is not None

    def boot(self) -> None:
        """Switch it on; a first time with a fresh disk. Nobody waits for the system to be up."""
        with self._lock:
            if self.is_on:
                return
            if not self.disk.folder.exists():
                self._make_disk()
                self.place.network.reserve(self.line)
            self._connect()
            self._process = self._spawned()
            self.stopped_itself = False
            threading.Thread(target=self._watch, args=[self._process], daemon=True).start()

    def power_off(self) -> None:
        """Press the button, and wait; a host that does not obey in half a minute is cut off."""
        with self._lock:
            process, self._process = self._process, None
            if process:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POWER_OFF)
                self._end()

    def power_cut(self) -> None:
        """Nothing that runs on it does another thing, and nobody hears from it."""
        with self._lock:
            process, self._process = self._process, None
            if process:
                self.place.network.disconnect(self.line)
                end_cgroups(self._group)
                process.wait()
                self._end()

    def reboot(self) -> None:
        """Off and on again: disk and address stay."""
        with self._lock:
            self.power_off()
            self.boot()

    def reset(self) -> None:
        """As reboot, without asking the system."""
        with self._lock:
            self.power_cut()
            self.boot()

    def rebuild(self, birth: Birth | None = None) -> None:
        """A fresh disk, of another image perhaps; addresses stay."""
        with self._lock:
            self.delete()
            self.birth = birth or self.birth
            self.boot()

    def delete(self) -> None:
        with self._lock:
            self.power_cut()
            if self.disk.folder.exists():
                self.disk.delete()
                self.place.network.release(self.line)

    # Trouble

    def unplug(self) -> None:
        """Let nothing pass between it and anybody."""
        self.place.firewalls.cut(self.line.name)

    def plug(self) -> None:
        """Take back what :meth:`unplug` and partitions did."""
        self.place.firewalls.mend(self.line.name)

    def fill_disk(self, percent: float = 100) -> None:
        """Leave nothing; or so much that *percent* of it are in use."""
        if percent < 100:
            self.disk.fill_to(percent)
        else:
            self.disk.fill()

    def free_disk(self) -> None:
        self.disk.free()

    # Looking inside

    def run(
        self, argv: Sequence[str], *, text: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the host on it, as root and without SSH, however it ends."""
        enter = ["nsenter", "--target", str(self._leader), "--all", "--root", "--wd=/", "--"]
        usual = [
            "env",
            "-i",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
        ]
        return attempted([*enter, *usual, *argv], text=text, timeout=timeout)

    def journal(self, *options: str) -> str:
        """What its journal holds, also of a host that is off."""
        folder = self.disk.root / "var/log/journal"
        return attempted(["journalctl", f"--directory={folder}", "--no-pager", *options]).stdout

    @property
    def _leader(self) -> int:
        """The process that is the first of the host's own."""
        assert self._process, f"{self.name} is off"
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        until(f"{self.name} has a process", lambda: children.read_text(encoding="ascii").split())
        return int(children.read_text(encoding="ascii").split()[0])

    # How

    @property
    def _group(self) -> str:
        return f"{self.place.run}/{self.place.mark}"

    def _make_disk(self) -> None:
        self.disk.create(base(self.birth.image))
        seed.plant(self.birth, self.disk.root)
        self.faults.plant(self.birth.name, self.disk.root)

    def _connect(self) -> None:
        self.namespace.create()
        self.place.network.connect(self.line, self.namespace)

    def _spawned(self) -> subprocess.Popen[bytes]:
        groups = [root / self._group for root in cgroup_roots()]
        for group in groups:
            group.mkdir(parents=True, exist_ok=True)
        where = [f"--machine={self.namespace.name}", f"--network-namespace-path={self.namespace.path}"]
        nspawn = ["systemd-nspawn", "-D", str(self.disk.root), *NSPAWN, *where]
        with self.console.open("ab") as console:
            return subprocess.Popen(
                ["sh", "-c", SPAWN, "sh", " ".join(map(str, groups)), *nspawn],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={**os.environ, **ENVIRONMENT},
                start_new_session=True,
            )

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Boot again after a reboot from within; note it when the host has switched itself off."""
        status = process.wait()
        with self._lock:
            if self._process is not process:
                return  # somebody outside did it
            self._process = None
            self._end()
            if status == WANTS_REBOOT:
                self.boot()
            else:
                self.stopped_itself = True

    def _end(self) -> None:
        """Clear what is left of a host that is off."""
        end_cgroups(self._group)
        attempted(["ip", "-n", self.place.network.router.name, "link", "delete", self.line.name])
        self.namespace.delete()
