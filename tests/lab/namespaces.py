"""Network namespaces: each is a machine's or a person's whole network."""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.commands import attempted, run

FOLDER = Path("/run/netns")
OWN = Path("/proc/thread-self/ns/net")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Namespace:
    name: str

    @property
    def path(self) -> Path:
        return FOLDER / self.name

    def create(self) -> None:
        """Make it, with a loopback that is up and addresses that count at once."""
        run(["ip", "netns", "add", self.name])
        with self.entered():
            for which in ("all", "default"):
                Path(f"/proc/sys/net/ipv6/conf/{which}/accept_dad").write_text("0", encoding="ascii")
        self.ip("link set lo up")

    def delete(self) -> None:
        """Take its name away; it goes when the last process in it has ended, its links with it."""
        attempted(["ip", "netns", "delete", self.name])

    def ip(self, *lines: str) -> None:
        """Let ``ip`` do what the lines say, all or up to the first that fails."""
        run(["ip", "-n", self.name, "-batch", "-"], text="".join(f"{line}\n" for line in lines))

    def run(
        self, argv: Sequence[str], *, text: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of this machine there, to its end, however that is."""
        with self.entered():
            return attempted(argv, text=text, timeout=timeout)

    def enter(self) -> None:
        """Let the current thread, and those it starts from now on, live there."""
        with self.path.open() as file:
            _enter(file.fileno())

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let the current thread live there while the block runs: sockets made in it stay there."""
        with OWN.open() as before:
            self.enter()
            try:
                yield
            finally:
                _enter(before.fileno())

    def processes(self) -> list[int]:
        """Who lives there, as a process; threads that were moved are not seen."""
        return [int(each) for each in attempted(["ip", "netns", "pids", self.name]).stdout.split()]


def _enter(file: int) -> None:
    if _libc.setns(file, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
