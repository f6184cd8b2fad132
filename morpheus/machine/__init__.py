"""What a node is made of: files in known places, programs that keep running, and the port to reach them."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

NATS = "nats"
WORKLOAD = "workload"
ACCOUNT = "APP"  # the account of the application, and the folder in which NATS keeps its streams


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand on a machine, as absolute paths."""

    config: str
    cluster: str
    store: str
    log: str

    @property
    def marker(self) -> str:
        """Tells "my store" from "empty". It stands in the one place within the data where NATS leaves it.

        Beside the data it would outlive them, and an empty folder tells nothing: a server without streams
        clears everything away.
        """
        return f"{self.data}/{ACCOUNT}/morpheus.json"

    @property
    def data(self) -> str:
        """Where NATS keeps its JetStream data."""
        return f"{self.store}/jetstream"


@dataclass(frozen=True, slots=True)
class Program:
    """Something that keeps running on a machine: its name there, its command line, its environment.

    ``ports`` are the TCP ports it listens on once it has started.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()


class Machine(Protocol):
    """One node's machine. Every call is bounded in time and may be made again.

    Calls raise UnreachableError when the machine gives no answer and MachineError when it answers no.
    """

    @property
    def name(self) -> str:
        """The name of the node."""

    @property
    def layout(self) -> Layout:
        """Where its files stand."""

    def enter(self, timeout: float) -> None:
        """Wait until the machine lets us in and has ended its birth well.

        Raises:
            NotReadyError: it does not within *timeout* seconds; says what was seen last.
            MachineError: its birth failed; says how.
            RefusedError: it shows a host key that is not its own.
        """

    def make_host_key(self) -> str:
        """Return the public half of the host key that the machine made for itself, once."""

    def take_host_key(self) -> None:
        """Have the machine show that key alone, prove it, and remove the one that it was born with."""

    def put(self, path: str, content: bytes, *, mode: int = 0o600, owner: str | None = None) -> bool:
        """Make the file *path* hold *content*, whole or not at all; return whether anything was different.

        *owner* is written as chown takes it ("nats", ":nats", "root:nats"). Without one a file keeps its
        owner, and a new one gets that of who writes and the group of its folder, if the folder says so
        (setgid). A machine on which all belongs to one user knows no other owner.
        """

    def read(self, path: str) -> bytes | None:
        """Return what the file *path* holds, None when there is none."""

    def run(self, *argv: str, timeout: float = 30.0) -> str:
        """Run a command to its end and return what it printed."""

    def start(self, program: Program) -> None:
        """Start *program* unless it runs; it outlives the caller.

        Raises:
            PortTakenError: it ended at once because a port it needs is taken.
            MachineError: it ended at once; tells its last words.
        """

    def reload(self, name: str) -> None:
        """Tell the program to read its configuration again."""

    def stop(self, name: str) -> None:
        """Stop the program and everything it started, if it runs."""

    def pid(self, name: str) -> int | None:
        """Return the process id of the program, None when it does not run."""

    def forward(self, port: int) -> AbstractContextManager[tuple[str, int]]:
        """Make the machine's loopback *port* reachable from here as (host, port) while the block runs."""


def is_stale(machine: Machine, program: Program) -> bool:
    """Whether *program* runs on *machine*, but was started with another environment than it is to have.

    Asked of the running process itself, so that a run that ended between a change and the start that was to
    follow is completed by the next.
    """
    pid = machine.pid(program.name)
    told = machine.read(f"/proc/{pid}/environ") if pid else None
    if not told:
        return False  # it does not run, or nobody can tell
    has = set(told.decode(errors="replace").split("\0"))
    return not has.issuperset(f"{key}={value}" for key, value in program.env.items())


class StoreState(StrEnum):
    """What stands in the place of a node's JetStream store."""

    HELD = "held"  # our marker, and it was in use
    FRESH = "fresh"  # our marker, and it never was
    GONE = "gone"  # no marker, so whatever was there may be lost


def store_marker(forest: str, node: str, created: str) -> bytes:
    """The content of the marker file: whose store this is, made when the machine is made."""
    return json.dumps({"forest": forest, "node": node, "created": created}).encode()


def store_state(machine: Machine, *, was_started: bool) -> StoreState:
    """Look at the store of *machine*, whose server *was_started* at some time or never."""
    try:
        marker = json.loads(machine.read(machine.layout.marker) or b"null")
    except ValueError:
        marker = None
    if not isinstance(marker, dict) or marker.get("node") != machine.name:
        return StoreState.GONE
    return StoreState.HELD if was_started else StoreState.FRESH
