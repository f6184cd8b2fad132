"""A machine that is entered by SSH: its files by small scripts, its programs by systemd."""

import contextlib
import hashlib
import posixpath
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Self

from morpheus.errors import MachineError, PortTakenError
from morpheus.machine import Layout, Program
from morpheus.machine.places import LAYOUT, UNITS
from morpheus.machine.ssh import scripts
from morpheus.machine.ssh.attend import Tell, attend
from morpheus.machine.ssh.connection import MARGIN, Connection, Connections
from morpheus.machine.ssh.follow import follow
from morpheus.machine.ssh.talk import MOST, Said, TooMuchError
from morpheus.machine.ssh.tunnel import tunnel
from morpheus.machine.ssh.way import Way

FILE_TIMEOUT = 60.0  # seconds for a file of ours; more for each megabyte
SLOWEST = 0.1 * 2**20  # bytes per second, below which a line is as good as cut
LARGE = 64 * 1024  # bytes from which on a file is sent only when its sum differs
LISTEN_TIMEOUT = 10.0  # seconds for a program to take its ports
GRACE = 0.3  # seconds within which a program without ports ends when it cannot run at all
START_TIMEOUT, STOP_TIMEOUT = 60.0, 180.0  # NATS hands its clients over before it stops
_LOOKS = 50  # per second


class SshMachine:
    """The machine of one node; root logs in there, so that every path may be written."""

    def __init__(  # each one is a fact of the machine
        self,
        name: str,
        connections: Connections,
        way: Way,
        layout: Layout = LAYOUT,
        units: Mapping[str, str] = UNITS,
    ) -> None:
        self._name, self._connections, self._way, self._layout = name, connections, way, layout
        self._units = units

    @property
    def name(self) -> str:
        return self._name

    @property
    def layout(self) -> Layout:
        return self._layout

    @property
    def way(self) -> Way:
        return self._way

    @property
    def connection(self) -> Connection:
        return self._connections.to(self._name, self._way)

    def accepting(self, *host_keys: str) -> "SshMachine":
        """The same machine, entered only when it shows one of *host_keys*."""
        way = replace(self._way, host_keys=host_keys)
        return SshMachine(self._name, self._connections, way, self._layout, self._units)

    def standing(self, layout: Layout, units: Mapping[str, str]) -> Self:
        """The same machine, on which other programs stand elsewhere, in *units* of their own."""
        return type(self)(self._name, self._connections, self._way, layout, units)

    def put(self, path: str, content: bytes, *, mode: int = 0o600, owner: str | None = None) -> bool:
        facts = (path, f"{mode:o}", owner or "", hashlib.sha256(content).hexdigest())
        if len(content) > LARGE:
            found = self._script(f"write {path}", scripts.COMPARE, *facts).out.strip()
            if found != b"send":
                return found == b"changed"
        timeout = FILE_TIMEOUT + len(content) / SLOWEST
        said = self._script(f"write {path}", scripts.PUT, *facts, given=content, timeout=timeout)
        return said.out.strip() == b"changed"

    def read(self, path: str) -> bytes | None:
        said = self._script(f"read {path}", scripts.READ, path, fine=(0, scripts.NOT_THERE))
        return said.out if said.code == 0 else None

    def run(self, *argv: str, timeout: float = 30.0) -> str:
        """Run a command; one that was under way when the connection was lost may have run to its end."""
        said = self._said(argv[0], scripts.bounded(*argv, timeout=timeout), b"", timeout, again=False)
        if said.code != 0:
            ended = f"ended with {said.code}" if said.code is not None else "was killed"
            raise MachineError(f"{argv[0]} on {self._name} {ended}: {said.complaint[-400:]}")
        return said.out.decode(errors="replace")

    def lines(self, *argv: str) -> Iterator[str]:
        """The lines that a command prints, as they come; closing the iterator ends the command.

        Raises:
            UnreachableError: the machine gives no answer (any more).
            MachineError: it ended badly.
        """
        return follow(self.connection, self._way, argv)

    def attend(self, command: str, tell: Tell) -> int:
        """Run a shell line of the operator's, without input and without a bound; return how it ended.

        *tell* is given each piece that it prints as it comes, and whether that is a complaint. Who wants it
        to end closes the connections.

        Raises:
            UnreachableError: the machine gives no answer (any more).
        """
        return attend(self.connection, self._way, command, tell)

    def start(self, program: Program) -> None:
        unit = unit_of(program.name, self._units)
        folder = posixpath.dirname(self._layout.config)
        self.put(f"{folder}/{unit.removesuffix('.service')}.env", _environment(program))
        looks = _LOOKS * (LISTEN_TIMEOUT if program.ports else GRACE)
        said = self._script(
            f"start {unit}",
            scripts.START,
            *(unit, self._layout.log, f"{looks:.0f}", *map(str, program.ports)),
            timeout=START_TIMEOUT,
            fine=(0, scripts.ENDED),
        )
        if said.code == scripts.ENDED:
            raise self._ended(program, unit, said)

    def _ended(self, program: Program, unit: str, said: Said) -> PortTakenError | MachineError:
        words = [*said.complaint.splitlines(), *said.out.decode(errors="replace").splitlines()]
        text = " | ".join(each.strip() for each in words if each.strip())[-800:] or "it said nothing"
        if program.ports and "address already in use" in text:
            return PortTakenError(f"Another program of {self._name} holds a port that {unit} needs: {text}")
        return MachineError(f"{unit} of {self._name} ended at once; its last words: {text}")

    def reload(self, name: str) -> None:
        unit = unit_of(name, self._units)
        self._script(f"reload {unit}", scripts.RELOAD, unit)

    def stop(self, name: str) -> None:
        unit = unit_of(name, self._units)
        self._script(f"stop {unit}", scripts.STOP, unit, timeout=STOP_TIMEOUT)

    def pid(self, name: str) -> int | None:
        unit = unit_of(name, self._units)
        said = self._script(f"ask for {unit}", scripts.PID, unit)
        return int(said.out.strip() or 0) or None

    @contextlib.contextmanager
    def forward(self, port: int) -> Iterator[tuple[str, int]]:
        with tunnel(self.connection, self._way, port) as address:
            yield address

    def ask(self, what: str, script: str, *arguments: str, timeout: float = 30.0) -> str:
        """Run a script of ours, which may be run again; *what* it is for stands in errors.

        Raises:
            MachineError: it fails.
        """
        return self._script(what, script, *arguments, timeout=timeout).out.decode(errors="replace")

    def do(  # what a script needs
        self,
        what: str,
        script: str,
        *arguments: str,
        given: bytes = b"",
        timeout: float = 30.0,
        fine: tuple[int, ...] = (0,),
    ) -> int:
        """Run a script of ours, which is *given* its input; return how it ended: as one of *fine*.

        Raises:
            MachineError: it ended otherwise.
        """
        said = self._script(what, script, *arguments, given=given, timeout=timeout, fine=fine)
        assert said.code is not None
        return said.code

    def _script(
        self,
        what: str,
        script: str,
        *arguments: str,
        given: bytes = b"",
        timeout: float = FILE_TIMEOUT,
        fine: tuple[int, ...] = (0,),
    ) -> Said:
        line = scripts.line(script, *arguments, timeout=timeout)
        said = self._said(f"To {what}", line, given, timeout, again=True)
        if said.code not in fine:
            why = said.complaint[-400:] or f"it ended with {said.code}"
            raise MachineError(f"Cannot {what} on {self._name}: {why}")
        return said

    def _said(self, what: str, line: str, given: bytes, timeout: float, *, again: bool) -> Said:
        began = time.monotonic()
        try:
            said = self.connection.execute(
                self._way, line, given, timeout=timeout + scripts.KILL_AFTER + MARGIN, again=again
            )
        except TooMuchError as error:
            most = f"{MOST // 2**20} MB"
            raise MachineError(f"{what} on {self._name} printed more than {most}.") from error
        if said.code in scripts.OVER and time.monotonic() - began >= timeout:
            raise MachineError(f"{what} on {self._name} did not end within {timeout:.0f} s.")
        return said


def unit_of(name: str, units: Mapping[str, str] = UNITS) -> str:
    """The systemd unit of a program."""
    return units.get(name, f"{name}.service")


def _environment(program: Program) -> bytes:
    """The program's environment as systemd reads it from a file."""
    lines = []
    for key, value in program.env.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`").replace("$", "\\$")
        lines.append(f'{key}="{escaped}"\n')
    return "".join(lines).encode()
