"""A machine that is a folder of this one: its files stand in it, its programs are processes of ours."""

import contextlib
import errno
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from morpheus.errors import MachineError, MissingPartError, PortTakenError
from morpheus.files import replace_file
from morpheus.machine import Layout, Program, processes

LISTEN_TIMEOUT = 10.0  # seconds for a program to take its ports
GRACE = 0.3  # seconds within which a program without ports ends when it cannot run at all


def layout(folder: Path) -> Layout:
    return Layout(
        config=str(folder / "nats.conf"),
        cluster=str(folder / "cluster.conf"),
        store=str(folder / "store"),
        log=str(folder / "nats.log"),
    )


class LocalMachine:
    """The machine of one local node; paths given to it are absolute and lie in its folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name, self._folder = name, folder

    @property
    def name(self) -> str:
        return self._name

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def layout(self) -> Layout:
        return layout(self._folder)

    def enter(self, timeout: float) -> None:
        del timeout  # it is this computer

    def make_host_key(self) -> str:
        raise MissingPartError(f"{self._name} is this computer: nobody enters it by SSH.")

    def take_host_key(self) -> None:
        raise MissingPartError(f"{self._name} is this computer: nobody enters it by SSH.")

    def put(self, path: str, content: bytes, *, mode: int = 0o600, owner: str | None = None) -> bool:
        del owner  # all of it is this user's
        file = Path(path)
        if not self._folder.is_dir():  # deleted meanwhile: to write would bring half of it back
            raise MachineError(f"The folder {self._folder} of {self._name} is gone, so nothing was written.")
        with _translated(f"write {path}"):
            if self.read(path) == content and file.stat().st_mode & 0o777 == mode:
                return False
            for folder in reversed(file.relative_to(self._folder).parents[:-1]):
                (self._folder / folder).mkdir(mode=0o700, exist_ok=True)  # never the machine's own with it
            replace_file(file, content, mode=mode)
        return True

    def read(self, path: str) -> bytes | None:
        with _translated(f"read {path}"):
            try:
                return Path(path).read_bytes()
            except FileNotFoundError:
                return None

    def run(self, *argv: str, timeout: float = 30.0) -> str:
        try:
            done = subprocess.run(
                argv,
                cwd=self._folder,
                env=processes.environment({}),
                capture_output=True,
                timeout=timeout,
                check=True,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired as error:
            raise MachineError(f"{argv[0]} on {self._name} did not end within {timeout:.0f} s.") from error
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip()[-400:]
            raise MachineError(f"{argv[0]} on {self._name} ended with {error.returncode}: {said}") from error
        except OSError as error:
            raise MachineError(f"Cannot run {argv[0]} on {self._name}: {error.strerror}.") from error
        return done.stdout.decode(errors="replace")

    def start(self, program: Program) -> None:
        said = {file: file.stat().st_size for file in self._logs(program.name) if file.exists()}
        with _translated(f"start {program.name} of {self._name}"):
            process = processes.start(self._folder, program)
        self._watch_start(program, process, said)

    def _watch_start(self, program: Program, process: psutil.Process, said: Mapping[Path, int]) -> None:
        """Wait until the program has its ports, after which it can no longer fail to get them.

        One that needs longer (a large store to read) is left to those who wait for it to be ready; one
        without ports has begun well when it does not end at once.
        """
        wanted = set(program.ports)
        deadline = time.monotonic() + (LISTEN_TIMEOUT if wanted else GRACE)
        while time.monotonic() < deadline:
            if not processes.is_running(process):
                raise self._ended(program, self._last_words(program.name, said))
            with contextlib.suppress(psutil.Error):
                sockets = process.net_connections("tcp") if wanted else []
                listening = {each.laddr.port for each in sockets if each.status == psutil.CONN_LISTEN}
                if wanted and wanted <= listening:
                    return
            time.sleep(0.01)

    def _ended(self, program: Program, said: str) -> PortTakenError | MachineError:
        if program.ports and "address already in use" in said:
            return PortTakenError(f"Another program took a port of {self._name} just before it started.")
        return MachineError(
            f"{program.name} of {self._name} ended at once; its log in {self._folder}: {said}"
        )

    def _logs(self, name: str) -> tuple[Path, Path]:
        return (self._folder / f"{name}.out", self._folder / f"{name}.log")

    def _last_words(self, name: str, said: Mapping[Path, int]) -> str:
        """The end of what the program wrote after it had *said* so many bytes, in one line."""
        tails = [_tail(file, said.get(file, 0)) for file in self._logs(name) if file.exists()]
        return " | ".join(line for tail in tails for line in tail.splitlines()[-3:]) or "it said nothing"

    def reload(self, name: str) -> None:
        processes.reload(self._folder, name)

    def stop(self, name: str) -> None:
        processes.stop(self._folder, name)

    def pid(self, name: str) -> int | None:
        process = processes.find(self._folder, name)
        return process.pid if process else None

    @contextlib.contextmanager
    def forward(self, port: int) -> Iterator[tuple[str, int]]:
        yield ("127.0.0.1", port)


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MachineError(f"Cannot {what}: {error.strerror or error}.") from error


def _tail(file: Path, start: int, most: int = 600) -> str:
    """The last characters of *file*, of what stands from byte *start* on (of all, when it became shorter)."""
    content = file.read_bytes()
    return content[start if start <= len(content) else 0 :].decode(errors="replace")[-most:]


def free_bytes(path: Path) -> int:
    """Bytes free for this user where the folder *path* is or will be.

    Raises:
        MachineError: it cannot be there.
    """
    places = (path, *path.parents)
    there = next(each for each in places if os.path.exists(each))  # noqa: PTH110  # False where we may not look
    if not there.is_dir():
        raise MachineError(f"{there} is no folder, so {path} cannot be: set MORPHEUS_DATA_DIR to a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise MachineError(f"You may not write to {there}: set MORPHEUS_DATA_DIR to a folder of your own.")
    return shutil.disk_usage(there).free


def is_free(port: int) -> bool:
    """Whether nobody listens on *port* of this machine's loopback, under either protocol."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # no IPv6 here
                    return False
    return True
