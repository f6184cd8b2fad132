"""A fence around the only server of a forest: its programs stay connected, but write nothing meanwhile.

The server reads a configuration in which everybody but who moves the streams may publish nothing, which
covers acknowledgements and the API as well; right afterwards the usual one is in its place again, so a server
that is started anew is open. The fence lifts itself when nobody renews it (machine/watchman.py).
"""

import contextlib
import json
import os
import shutil
import time
from pathlib import Path

from morpheus import host
from morpheus.errors import MachineError, OvertakenError
from morpheus.files import make_folder, replace_file
from morpheus.machine import NATS, Program, processes, watchman
from morpheus.machine.local import LocalMachine
from morpheus.machine.watchman import ARMED, CLOSED, LIFTED, LIFTS_AFTER, OPEN
from morpheus.wait import wait_until

RELOAD_TIMEOUT = 10.0  # seconds until a server has read its configuration
CALM = 0.3  # seconds after which all that was let in before has come to its stream
_DONE, _FAILED = "Reloaded server configuration", "Failed to reload server configuration"


class LocalFence:
    """The fence around the server of *machine*, a folder of this computer; *server* is how it is started."""

    def __init__(self, machine: LocalMachine, server: Program, *, lifts_after: float = LIFTS_AFTER) -> None:
        self.machine, self._server, self._lifts_after = machine, server, lifts_after

    @property
    def _folder(self) -> Path:
        return self.machine.folder

    def arm(self, guarded: bytes) -> None:
        """Return once nobody but who moves the streams can write; *guarded* is the configuration for that.

        Raises:
            MachineError: the server does not run, or does not read it; then it is as it was.
        """
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
        """Have the fence hold for its whole time from now on.

        Raises:
            OvertakenError: it does not hold any more.
        """
        try:
            os.utime(self._folder / ARMED)
            told = json.loads((self._folder / ARMED).read_text())
        except FileNotFoundError:
            raise self._lifted() from None
        server = processes.find(self._folder, NATS)
        if server is None or (server.pid, host.start_ticks(server.pid)) != (told["pid"], told["start"]):
            raise self._lifted()

    def close(self) -> None:
        """Stop the server for good, while the fence holds: whatever it took stands in what was saved.

        Raises:
            OvertakenError: the fence did not hold till the end; the server may have taken messages since.
        """
        self.renew()
        self.machine.stop(NATS)
        try:
            (self._folder / ARMED).rename(self._folder / CLOSED)  # one of two that move it succeeds
        except FileNotFoundError:
            raise self._lifted() from None
        self.machine.stop(watchman.NAME)

    def lift(self) -> None:
        """Let programs in again, also where the server was stopped for good, or where there is no fence."""
        with contextlib.suppress(FileNotFoundError):
            (self._folder / CLOSED).rename(self._folder / LIFTED)
        watchman.lift(self._folder)
        self.machine.stop(watchman.NAME)
        shutil.rmtree(self._folder / watchman.NAME, ignore_errors=True)

    def _lifted(self) -> OvertakenError:
        return OvertakenError(
            f"The fence around {self.machine.name} was lifted before its streams were moved: nobody renewed "
            "it, or the server was started anew. Nothing is lost, they are where they were. Run this again."
        )


def _await_reload(machine: LocalMachine, said: int) -> None:
    """Return when the log of *machine* tells, after so many bytes, that the configuration was read."""

    def ask() -> str:
        log = machine.read(machine.layout.log) or b""
        return log[said if said <= len(log) else 0 :].decode(errors="replace")

    def enough(text: str) -> bool:
        return _DONE in text or _FAILED in text

    def describe(text: str) -> str:
        return (text.splitlines() or ["its log says nothing"])[-1]

    what = f"{machine.name} to read its configuration"
    text = wait_until(what, ask, enough, describe, timeout=RELOAD_TIMEOUT)
    if _FAILED in text:
        raise MachineError(f"{machine.name} cannot be fenced: {describe(text)}")


def _size(log: str) -> int:
    try:
        return Path(log).stat().st_size
    except FileNotFoundError:
        return 0
