"""What a node is made of: files in known places, programs that keep running, and the port to reach them."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

NATS = "nats"
WORKLOAD = "workload"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand on a machine, as absolute paths."""

    config: str
    cluster: str
    store: str
    log: str

    @property
    def marker(self) -> str:
        """Tells "my store" from "empty"; beside the data, for NATS deletes what it does not know within."""
        return f"{self.store}/morpheus.json"

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

    def put(self, path: str, content: bytes, *, mode: int = 0o600) -> bool:
        """Make the file *path* hold *content*, whole or not at all; return whether it was different."""

    def read(self, path: str) -> bytes | None:
        """Return what the file *path* holds, None when there is none."""

    def run(self, *argv: str, timeout: float = 30.0) -> str:
        """Run a command to its end and return what it printed."""

    def start(self, program: Program) -> None:
        """Start *program* unless it runs; it outlives the caller.

        Raises:
            PortTakenError: it ended at once because a port it needs is taken.
        """

    def reload(self, name: str) -> None:
        """Tell the program to read its configuration again."""

    def stop(self, name: str) -> None:
        """Stop the program and everything it started, if it runs."""

    def pid(self, name: str) -> int | None:
        """Return the process id of the program, None when it does not run."""

    def forward(self, port: int) -> AbstractContextManager[tuple[str, int]]:
        """Make the machine's loopback *port* reachable from here as (host, port) while the block runs."""


class StoreState(StrEnum):
    """What stands in the place of a node's JetStream store."""

    HELD = "held"  # our marker, and data
    FRESH = "fresh"  # our marker, and never used
    GONE = "gone"


def store_marker(forest: str, node: str, created: str) -> bytes:
    """The content of the marker file: whose store this is, made when the machine is made."""
    return json.dumps({"forest": forest, "node": node, "created": created}).encode()


def store_state(machine: Machine, *, was_started: bool) -> StoreState:
    """Look at the store of *machine*; data that was there once (*was_started*) and is not is GONE."""
    marker = machine.read(machine.layout.marker)
    if marker is None or json.loads(marker).get("node") != machine.name:
        return StoreState.GONE
    if has_data(machine):
        return StoreState.HELD
    return StoreState.GONE if was_started else StoreState.FRESH


def has_data(machine: Machine) -> bool:
    """Whether NATS has written to the store (a server that once was ready always has)."""
    return bool(machine.run("sh", "-c", 'ls -A "$0" 2>/dev/null || true', machine.layout.data).strip())
