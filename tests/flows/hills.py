"""A cloud whose machines have addresses of their own and real NATS servers, on this machine alone.

Its machines are folders and processes as those of the local cloud, but each has an address of its own
(Linux answers to all of 127.0.0.0/8), so that forests are recorded as other programs read them. Every
effect of a flow passes by :class:`Effects`, which can make any of them fail.
"""

import contextlib
import fnmatch
import json
import random
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import SecretStr

from morpheus.cloud import Cloud, Order, Server
from morpheus.cloud.local import LocalCloud
from morpheus.forest import Node, Price
from morpheus.machine import NATS, WORKLOAD, Program, StoreState
from morpheus.machine.beside.local import LocalBeside
from morpheus.machine.local import LocalMachine
from tests import reader
from tests.fakes import MemoryStore


@dataclass
class Effects:
    """The effects of flows, by name and in order; those that match a pattern fail."""

    seen: list[str] = field(default_factory=list)
    _failing: dict[str, Iterator[Exception | None]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def happens(self, effect: str) -> None:
        """Note *effect*, or raise what it is to fail with."""
        with self._lock:
            self.seen.append(effect)
            for pattern, errors in self._failing.items():
                if fnmatch.fnmatch(effect, pattern) and (error := next(errors, None)):
                    raise error

    def noted(self, fact: str) -> None:
        """Note what has happened."""
        with self._lock:
            self.seen.append(fact)

    @contextlib.contextmanager
    def failing(
        self,
        pattern: str,
        error: Exception,
        *,
        after: int = 0,
        times: int = 1,
        first: Callable[[], object] = lambda: None,
    ) -> Iterator[None]:
        """Fail with *error* while the block runs, when *after* effects of that pattern have happened.

        *first* is what comes to pass right before.
        """

        def errors() -> Iterator[Exception | None]:
            yield from [None] * after
            first()
            yield from [error] * times

        self._failing[pattern] = errors()
        try:
            yield
        finally:
            del self._failing[pattern]

    def matching(self, pattern: str) -> list[str]:
        return fnmatch.filter(self.seen, pattern)


class HillMachine(LocalMachine):
    """One machine: reached at its own address."""

    def __init__(self, name: str, folder: Path, ip: str, effects: Effects) -> None:
        super().__init__(name, folder)
        self._ip, self._effects = ip, effects

    def put(self, path: str, content: bytes, *, mode: int = 0o600, owner: str | None = None) -> bool:
        self._effects.happens(f"put {self.name} {Path(path).name}")
        return super().put(path, content, mode=mode, owner=owner)

    def start(self, program: Program) -> None:
        self._effects.happens(f"start {self.name} {program.name}")
        super().start(program)
        self._effects.happens(f"started {self.name} {program.name}")

    def stop(self, name: str) -> None:
        self._effects.happens(f"stop {self.name} {name}")
        super().stop(name)

    @contextlib.contextmanager
    def forward(self, port: int) -> Iterator[tuple[str, int]]:
        self._effects.happens(f"reach {self.name} {port - port % 1000}")
        yield (self._ip, port)


class Hills:
    """The cloud."""

    provider = "hills"
    location = "west"
    margin = 5.0
    runs_programs = True
    needs_key = False

    def __init__(self, root: Path, effects: Effects) -> None:
        self._inner, self._root, self._effects = LocalCloud(root), root, effects
        self._net = f"127.{random.randrange(1, 255)}.{random.randrange(255)}"

    def list_servers(self, registry_id: str, forest: str | None = None) -> Sequence[Server]:
        return [self._placed(server) for server in self._inner.list_servers(registry_id, forest)]

    def entered_with(self, key: SecretStr) -> "Hills":
        return self  # its machines are ours anyway

    def groundwork(self, orders: Sequence[Order]) -> Mapping[str, Callable[[], object]]:
        return {}  # they share nothing

    def ensure_server(self, order: Order) -> Server:
        self._effects.happens(f"create {order.name}")
        server = self._inner.ensure_server(order)
        self._effects.happens(f"created {order.name}")
        return self._placed(server)

    def delete_server(self, registry_id: str, name: str) -> None:
        self._effects.happens(f"delete {name}")
        self._inner.delete_server(registry_id, name)

    def platforms(self) -> Collection[str]:
        return ()

    def price(self) -> Price:
        return Price()

    def check(self, *, creates: bool) -> None:
        pass

    def admit(
        self, registry_id: str, forest: str, nodes: Sequence[Server], leaving: Sequence[Server] = ()
    ) -> Sequence[Server]:
        return nodes

    def clear(self, registry_id: str, forest: str) -> None:
        pass

    def homes(self, url: str, username: str) -> None:
        return None

    def holdings(self, registry_id: str, forest: str) -> Sequence[str]:
        return self._inner.holdings(registry_id, forest)

    def machine(self, server: Server) -> HillMachine:
        return HillMachine(server.name, self._inner.machine(server).folder, server.ip, self._effects)

    def beside(self, server: Server) -> LocalBeside:
        return self._inner.beside(server)

    def store(self, server: Server) -> StoreState:
        return self._inner.store(server)

    def _placed(self, server: Server) -> Server:
        return replace(server, ip=f"{self._net}.{Node(server.name).number}")

    def pids(self, forest: str) -> Mapping[str, int | None]:
        """The process ids of the forest's servers, by the names of their nodes."""
        folders = sorted(self._root.glob(f"forests/{forest}/{forest}-node-*"))
        return {each.name: LocalMachine(each.name, each).pid(NATS) for each in folders}

    def folder(self, node: str) -> Path:
        return self._inner.machine(Server(node, "", {})).folder

    def stop(self, node: str) -> None:
        """Stop the node's server; its disk stays as it is."""
        LocalMachine(node, self.folder(node)).stop(NATS)

    def lose(self, node: str) -> None:
        """Stop the node's server and empty its disk; the machine stays."""
        machine = LocalMachine(node, self.folder(node))
        machine.stop(NATS)
        for path in sorted(Path(machine.layout.store).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    def raze(self) -> None:
        """Stop everything that still runs."""
        for folder in self._root.glob("forests/*/*-node-*"):
            for program in (WORKLOAD, NATS):
                LocalMachine(folder.name, folder).stop(program)


class WatchedStore(MemoryStore):
    """A store of which every text is read by the other program, right when it is written (R1.2)."""

    def __init__(self, cloud: Cloud, effects: Effects) -> None:
        super().__init__("hills")
        self._cloud, self._effects = cloud, effects
        self.texts: list[str] = []
        self.faults: list[str] = []

    def write(self, text: str, expected: str | None, *, backup: bool, over: str | None = None) -> str:
        self._effects.happens("record " + " ".join(sorted(json.loads(text)["forests"])))
        version = super().write(text, expected, backup=backup, over=over)
        self.texts.append(text)
        try:
            self._look(text)
        except (AssertionError, reader.UnreadableError) as error:
            self.faults.append(f"write {len(self.texts)}: {error}")
        return version

    def _look(self, text: str) -> None:
        """Fail unless *text* lists, with their own addresses, only machines that exist."""
        document = reader.read(text)
        for forest, nodes in document["nodes"].items():
            there = {each.ip for each in self._cloud.list_servers(document["registry_id"], forest)}
            listed = [node["ip"] for node in nodes]
            assert {*listed} <= there, f"{forest} lists {listed}, there are {there}"
            for ip in listed:
                others = [f"[{each}]:6222" for each in listed if each != ip]
                assert reader.routes(text, forest, ip) == others
                assert len(others) == len(listed) - 1, f"{forest}: {ip} would route to itself"
