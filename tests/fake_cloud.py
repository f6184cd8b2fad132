"""A cloud and its machines in memory: they keep the contracts of tests/contracts, and fail when told to."""

import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from pydantic import SecretStr

from morpheus.cloud import Order, Server, forest_of
from morpheus.errors import MachineError, MissingPartError, RefusedError
from morpheus.forest import Price
from morpheus.machine import NATS, Layout, Program, StoreState, store_marker, store_state
from morpheus.machine.beside import Beside


class Script:
    """What happens before and after each effect; effects are named like the methods that have them.

    ``fail_after=3`` lets three effects happen and raises in the place of every later one.
    """

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.fail_after: int | None = None
        self.before: Callable[[str, str], None] = _nothing
        self.after: Callable[[str, str], None] = _nothing
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def effect(self, verb: str, subject: str) -> Iterator[None]:
        """One effect, which happens in the block; ``before`` and ``after`` may raise."""
        with self._lock:
            if self.fail_after is not None and len(self.done) >= self.fail_after:
                raise MachineError(
                    f"The script allows {self.fail_after} effects; {verb} {subject} is one more."
                )
            self.before(verb, subject)
            yield
            self.done.append((verb, subject))
            self.after(verb, subject)


def _nothing(_verb: str, _subject: str) -> None:
    pass


class FakeMachine:
    """A machine in memory: a dictionary of files, a dictionary of programs."""

    _pids = itertools.count(100_000)

    def __init__(self, name: str, script: Script | None = None) -> None:
        self._name, self._script = name, script or Script()
        self.files: dict[str, bytes] = {}
        self.modes: dict[str, int] = {}
        self.running: dict[str, tuple[Program, int]] = {}
        self.started: Counter[str] = Counter()
        self.reloaded: Counter[str] = Counter()
        self.own_host_key = self.shown_host_key = ""
        self.commands: list[tuple[str, ...]] = []
        self.answers: dict[tuple[str, ...], str | MachineError] = {}

    @property
    def name(self) -> str:
        return self._name

    @property
    def layout(self) -> Layout:
        root = f"/machines/{self._name}"
        return Layout(f"{root}/nats.conf", f"{root}/cluster.conf", f"{root}/store", f"{root}/nats.log")

    def enter(self, timeout: float) -> None:
        pass  # it is born with its first breath

    def make_host_key(self) -> str:
        self.own_host_key = self.own_host_key or f"ssh-ed25519 own-of-{self._name}"
        return self.own_host_key

    def take_host_key(self) -> None:
        with self._script.effect("take host key", self._name):
            self.shown_host_key = self.own_host_key

    def put(self, path: str, content: bytes, *, mode: int = 0o600, owner: str | None = None) -> bool:
        parent = path.rpartition("/")[0]
        if parent in self.files:
            raise MachineError(f"Cannot write {path}: {parent} is a file.")
        if self.files.get(path) == content and self.modes[path] == mode:
            return False
        with self._script.effect("put", path):
            self.files[path], self.modes[path] = content, mode
        return True

    def read(self, path: str) -> bytes | None:
        if any(each.startswith(f"{path}/") for each in self.files):
            raise MachineError(f"Cannot read {path}: it is a folder.")
        return self.files.get(path)

    def run(self, *argv: str, timeout: float = 30.0) -> str:
        self.commands.append(argv)
        answer = self.answers.get(argv, MachineError(f"{argv[0]} on {self._name}: not found."))
        if isinstance(answer, MachineError):
            raise answer
        return answer

    def start(self, program: Program) -> None:
        if program.name in self.running:
            return
        if not program.argv[0].startswith("/"):
            raise MachineError(f"{program.argv[0]} is not a program that can be run.")
        with self._script.effect("start", self._name):
            self.running[program.name] = (program, next(self._pids))
            self.started[program.name] += 1

    def reload(self, name: str) -> None:
        if name in self.running:
            self.reloaded[name] += 1

    def stop(self, name: str) -> None:
        if name in self.running:
            with self._script.effect("stop", self._name):
                del self.running[name]

    def pid(self, name: str) -> int | None:
        return self.running[name][1] if name in self.running else None

    @contextlib.contextmanager
    def forward(self, port: int) -> Iterator[tuple[str, int]]:
        yield ("127.0.0.1", port)

    def wipe_store(self) -> None:
        """Lose the whole store, marker and data, as when a disk is lost."""
        for path in [path for path in self.files if path.startswith(f"{self.layout.store}/")]:
            del self.files[path]


class FakeCloud:
    """Servers in memory, with addresses from the range that is kept for documentation."""

    provider = "fake"
    location = "here"
    margin = 0.0
    runs_programs = True
    needs_key = False

    def __init__(self) -> None:
        self.script = Script()
        self.servers: dict[str, Server] = {}
        self.machines: dict[str, FakeMachine] = {}
        self._addresses = (f"2001:db8::{k:x}" for k in itertools.count(1))
        self._lock = threading.RLock()

    def list_servers(self, registry_id: str, forest: str | None = None) -> Sequence[Server]:
        with self._lock:
            found = [self.servers[name] for name in sorted(self.servers)]
        wanted = [each for each in found if forest in (None, each.labels["forest-id"])]
        return [each for each in wanted if _is(each, registry_id)]

    def entered_with(self, key: SecretStr) -> "FakeCloud":
        return self  # its machines are ours anyway

    def groundwork(self, orders: Sequence[Order]) -> Mapping[str, Callable[[], object]]:
        return {}  # they share nothing

    def ensure_server(self, order: Order) -> Server:
        forest_of(order.name)
        with self._lock:
            known = self.servers.get(order.name)
            if known and not _is(known, order.registry_id):
                raise RefusedError(f"The name {order.name} is taken by a server of another registry.")
            if known:
                return known
            with self.script.effect("create", order.name):
                server = Server(order.name, next(self._addresses), order.labels)
                machine = FakeMachine(order.name, self.script)
                machine.files[machine.layout.marker] = store_marker(order.forest, order.name, "now")
                self.servers[order.name], self.machines[order.name] = server, machine
            return server

    def delete_server(self, registry_id: str, name: str) -> None:
        forest_of(name)
        with self._lock:
            known = self.servers.get(name)
            if known is None:
                return
            if not _is(known, registry_id):
                raise RefusedError(f"The server {name} belongs to another registry.")
            with self.script.effect("delete", name):
                del self.servers[name], self.machines[name]

    def platforms(self) -> Collection[str]:
        return ()

    def price(self) -> Price:
        return Price()

    def check(self, *, creates: bool) -> None:
        pass

    def admit(
        self, registry_id: str, forest: str, nodes: Sequence[Server], leaving: Sequence[Server] = ()
    ) -> Sequence[Server]:
        return nodes  # nothing keeps them apart

    def clear(self, registry_id: str, forest: str) -> None:
        pass  # they share nothing

    def homes(self, url: str, username: str) -> None:
        return None

    def holdings(self, registry_id: str, forest: str) -> Sequence[str]:
        return [f"server {server.name}" for server in self.list_servers(registry_id, forest)]

    def machine(self, server: Server) -> FakeMachine:
        """The machine of *server*; of one that is not there, an empty one that keeps nothing."""
        return self.machines.get(server.name) or FakeMachine(server.name, self.script)

    def beside(self, server: Server) -> Beside:
        return one_server(server)

    def store(self, server: Server) -> StoreState:
        machine = self.machine(server)
        return store_state(machine, was_started=bool(machine.started[NATS]))


def one_server(server: Server) -> Beside:
    """The place of a second one, where there is none."""
    raise MissingPartError(f"{server.name} has room for one server only: streams move here and on hosts.")


def _is(server: Server, registry_id: str) -> bool:
    return server.labels["registry-id"] == registry_id
