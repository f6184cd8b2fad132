"""On this computer: a second folder in that of the machine, and a fence that a process of ours lifts."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from morpheus import host
from morpheus.errors import MachineError
from morpheus.files import make_folder, replace_file
from morpheus.forest import Ports
from morpheus.machine import NATS, Program, processes
from morpheus.machine.beside import ASIDE, CALM, LIFTS_AFTER, NOT_READ, READ, RELOAD_TIMEOUT, lifted, watchman
from morpheus.machine.beside.watchman import ARMED, CLOSED, LIFTED, OPEN
from morpheus.machine.local import LocalMachine, free_bytes, is_free
from morpheus.wait import wait_until

PLACE, KEPT, PORTS = "beside", "store-before", "ports.json"
TURN = f"{watchman.NAME}/turn"


class LocalBeside:
    """The place of a second server of *machine*, in its folder."""

    def __init__(self, machine: LocalMachine) -> None:
        self._first = machine
        self._second = LocalMachine(machine.name, machine.folder / PLACE)

    @property
    def machine(self) -> LocalMachine:
        return self._second

    @property
    def kept(self) -> str:
        return str(self._first.folder / KEPT)

    def prepare(self, marker: bytes, first: Ports) -> None:
        folder = self._second.folder
        make_folder(folder)
        self._second.put(self._second.layout.marker, marker)
        chosen = {
            f"{kind}_port": str(_free_port(getattr(first, kind) + ASIDE)) for kind in ("client", "monitor")
        }
        self._second.put(str(folder / PORTS), json.dumps(chosen).encode())

    def ports(self) -> Mapping[str, str]:
        told = self._second.read(str(self._second.folder / PORTS))
        if told is None or not Path(self._second.layout.store).exists():
            return {}
        chosen: Mapping[str, str] = json.loads(told)
        return chosen

    def free(self) -> int:
        return free_bytes(self._first.folder)

    def fence(self, server: Program, turn: int = 0, lifts_after: float = LIFTS_AFTER) -> "LocalFence":
        return LocalFence(self._first, server, turn, lifts_after=lifts_after)

    def exchange(self) -> None:
        new, store = Path(self._second.layout.store), Path(self._first.layout.store)
        if not new.exists():
            return  # done before
        if store.exists():
            store.rename(self.kept)
        new.rename(store)

    def exchanged(self) -> bool:
        return Path(self.kept).exists()

    def remove(self, turn: int = 0) -> None:
        _check_turn(self._first, turn)
        self._second.stop(NATS)
        for left in (self._second.folder, self._first.folder / watchman.NAME):
            shutil.rmtree(left, ignore_errors=True)

    def discard(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.kept)


def _free_port(first: int) -> int:
    return next(port for port in range(first, first + ASIDE) if is_free(port))


class LocalFence:
    """The fence around the server of *machine*, a folder of this computer; *server* is how it is started."""

    def __init__(
        self, machine: LocalMachine, server: Program, turn: int = 0, *, lifts_after: float = LIFTS_AFTER
    ) -> None:
        self.machine, self._server, self._turn, self._lifts_after = machine, server, turn, lifts_after

    @property
    def _folder(self) -> Path:
        return self.machine.folder

    def arm(self, guarded: bytes) -> None:
        self.lift()  # one that was left: its configuration may stand in the place of the usual one
        server, config = processes.find(self._folder, NATS), Path(self.machine.layout.config)
        if server is None:
            raise MachineError(f"The server of {self.machine.name} does not run, so it cannot be fenced.")
        told = {
            "pid": server.pid,
            "start": host.start_ticks(server.pid),
            "config": str(config),
            "argv": self._server.argv,
            "ports": self._server.ports,
        }
        make_folder(self._folder / watchman.NAME)
        replace_file(self._folder / TURN, str(self._turn).encode())
        usual = config.read_bytes()
        replace_file(self._folder / OPEN, usual)
        replace_file(self._folder / ARMED, json.dumps(told).encode())
        try:
            processes.start(self._folder, watchman.program(self._folder, self._lifts_after))
            said = _size(self.machine.layout.log)
            replace_file(config, guarded)
            self.machine.reload(NATS)
            _await_reload(self.machine, said)
            replace_file(config, usual)
            self.renew()
        except BaseException:
            self.lift()
            raise
        time.sleep(CALM)

    def renew(self) -> None:
        try:
            os.utime(self._folder / ARMED)
            told = json.loads((self._folder / ARMED).read_text())
        except FileNotFoundError:
            raise lifted(self.machine.name) from None
        server = processes.find(self._folder, NATS)
        if server is None or (server.pid, host.start_ticks(server.pid)) != (told["pid"], told["start"]):
            raise lifted(self.machine.name)

    def close(self) -> None:
        self.renew()
        self.machine.stop(NATS)
        try:
            (self._folder / ARMED).rename(self._folder / CLOSED)  # one of two that move it succeeds
        except FileNotFoundError:
            self.machine.start(self._server)  # it may have been lifted just before the server stopped
            raise lifted(self.machine.name) from None
        self.machine.stop(watchman.NAME)

    def lift(self) -> None:
        _check_turn(self.machine, self._turn)
        with contextlib.suppress(FileNotFoundError):
            (self._folder / CLOSED).rename(self._folder / LIFTED)
        watchman.lift(self._folder)
        self.machine.stop(watchman.NAME)
        shutil.rmtree(self._folder / watchman.NAME, ignore_errors=True)


def _check_turn(machine: LocalMachine, turn: int) -> None:
    """Raise OvertakenError where who made the fence of *machine* has a later one: we were halted since."""
    with contextlib.suppress(FileNotFoundError):
        if turn < int((machine.folder / TURN).read_text()):
            raise lifted(machine.name)


def _await_reload(machine: LocalMachine, said: int) -> None:
    """Return when the log of *machine* tells, after so many bytes, that the configuration was read."""

    def ask() -> str:
        log = machine.read(machine.layout.log) or b""
        return log[said if said <= len(log) else 0 :].decode(errors="replace")

    def enough(text: str) -> bool:
        return READ in text or NOT_READ in text

    def describe(text: str) -> str:
        return (text.splitlines() or ["its log says nothing"])[-1]

    what = f"{machine.name} to read its configuration"
    text = wait_until(what, ask, enough, describe, timeout=RELOAD_TIMEOUT)
    if NOT_READ in text:
        raise MachineError(f"{machine.name} cannot be fenced: {describe(text)}")


def _size(log: str) -> int:
    try:
        return Path(log).stat().st_size
    except FileNotFoundError:
        return 0
