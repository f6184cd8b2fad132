"""A forest planted by hand, with nothing but the modules under test: no flow, no registry."""

import json
import os
import shutil
import signal
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from morpheus.cloud import Order, Server
from morpheus.cloud.local import LocalCloud
from morpheus.forest import Forest, Node
from morpheus.machine import NATS, binaries
from morpheus.machine.local import LocalMachine
from morpheus.nats import config, monitor
from morpheus.nats.access import AccessFolder
from morpheus.nats.cluster import Formation, judge
from morpheus.nats.monitor import Reading
from tests.machine.conftest import free_ports

STAGGER = 0.03  # seconds between two starts; servers that start in the same instant may outvote each other
BOUND = 40.0  # seconds until anything has happened that is to happen


Seen = TypeVar("Seen")


class Grove:
    """One forest of processes of this machine."""

    def __init__(self, folder: Path, *numbers: int, name: str = "oak") -> None:
        self.folder = folder
        self.cloud = LocalCloud(folder, first=free_ports())
        self.access = AccessFolder(folder / "access").ensure(name)
        self.binary = str(binaries.nats_server(None, folder / "cache", "").path)
        self.forest = Forest(name, "local")
        self._servers: dict[str, Server] = {}
        self.add(*numbers)

    def add(self, *numbers: int) -> list[str]:
        """Make the machines of these nodes."""
        names = [f"{self.forest.name}-node-{number}" for number in numbers]
        for name in names:
            server = self.cloud.ensure_server(Order(name, self.forest.name, "ours", "run", len(names)))
            self._servers[name] = server
            self.forest = self.forest.with_nodes(Node(name, server.ip, metadata=server.metadata))
        return names

    @property
    def names(self) -> list[str]:
        return [node.name for node in self.forest.nodes]

    def node(self, name: str) -> Node:
        return self.forest.node(name)

    def machine(self, name: str) -> LocalMachine:
        return self.cloud.machine(self._servers[name])

    def configure(self, names: Iterable[str]) -> None:
        for name in names:
            layout = self.machine(name).layout
            files = config.render(self.forest, self.node(name), layout, self.access, listen="127.0.0.1")
            self.machine(name).put(layout.config, files.nats.encode())
            self.machine(name).put(layout.cluster, files.cluster.encode())

    def start(self, names: Sequence[str] | None = None) -> None:
        """Configure and start these nodes, all at once but for a moment between them."""
        names = self.names if names is None else names
        self.configure(names)

        def start(k: int) -> None:
            time.sleep(STAGGER * k)
            machine, alone = self.machine(names[k]), config.is_standalone(self.forest)
            node = self.node(names[k])
            machine.start(config.server_program(self.binary, node, machine.layout, standalone=alone))

        with ThreadPoolExecutor() as pool:
            list(pool.map(start, range(len(names))))

    def read(self, names: Sequence[str] | None = None) -> Mapping[str, Reading]:
        names = self.names if names is None else names
        ports = [self.node(name).ports.monitor for name in names]
        return dict(zip(names, monitor.read_all([("127.0.0.1", port) for port in ports]), strict=True))

    def verdict(self, names: Sequence[str] | None = None) -> Formation:
        return judge(self.read(names))

    def wait_formed(self, names: Sequence[str] | None = None) -> Formation:
        return wait_for(lambda: self.verdict(names), lambda verdict: verdict.formed)

    def wait_leader(self, names: Sequence[str]) -> Formation:
        """Wait until the rest of a cluster, *names*, agrees on a leader and is well."""
        return wait_for(
            lambda: self.verdict(names),
            lambda verdict: bool(verdict.leader) and verdict.current == len(names),
        )

    def urls(self, names: Sequence[str] | None = None) -> list[str]:
        return [config.client_url(self.node(name)) for name in (self.names if names is None else names)]

    def ask(self, name: str, path: str) -> Any:
        """What the node answers on its monitoring port."""
        port = self.node(name).ports.monitor
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return json.load(answer)

    def kill(self, *names: str) -> None:
        """End the servers of these nodes the hard way, and nothing else."""
        for name in names:
            pid = self.machine(name).pid(NATS)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        for name in names:
            self.machine(name).stop(NATS)

    def wipe(self, *names: str) -> None:
        for name in names:
            shutil.rmtree(self.machine(name).layout.store)

    def forget(self, *names: str) -> None:
        self.forest = self.forest.without(*names)

    def close(self) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda name: self.cloud.delete_server("ours", name), self._servers))


@contextmanager
def standing(folder: Path, *numbers: int) -> Iterator[Grove]:
    """A forest whose nodes have formed what they are to form, while the block runs."""
    with formed(Grove(folder, *numbers)) as grove:
        yield grove


@contextmanager
def formed(grove: Grove) -> Iterator[Grove]:
    """*grove*, whose nodes have formed what they are to form, while the block runs."""
    try:
        grove.start()
        grove.wait_formed()
        yield grove
    finally:
        grove.close()


def wait_for(ask: Callable[[], Seen], enough: Callable[[Seen], bool], timeout: float = BOUND) -> Seen:
    """Return the first answer that is *enough*; fail with the last one that was not."""
    deadline = time.monotonic() + timeout
    while not enough(seen := ask()):
        assert time.monotonic() < deadline, f"it did not come true within {timeout} s: {seen}"
        time.sleep(0.02)
    return seen
