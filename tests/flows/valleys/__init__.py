"""Machines of simulated servers, on this computer alone: a folder for each, with real NATS servers.

The simulator tells of births and power; what stands on a machine, whether it is on, which host key it shows
and whom it lets in is all in its folder, so that any process may enter it. Each machine has an address of its
own (Linux answers to all of 127.0.0.0/8), so all ports are the usual ones. Beside hosts (tests/lab) this is a
model: it knows nothing of TLS, users and systemd's sandboxes.
"""

import contextlib
import fnmatch
import itertools
import os
import random
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import yaml
from pydantic import SecretStr

from morpheus import openssh
from morpheus.cloud import Server
from morpheus.errors import RefusedError
from morpheus.machine import NATS, WORKLOAD, StoreState, processes, store_state
from morpheus.machine.beside import Beside
from morpheus.machine.local import LocalMachine
from tests.fake_cloud import one_server
from tests.flows.hills import Effects
from tests.flows.valleys.machine import ValleyMachine
from tests.flows.valleys.plots import WELL, Plot, folder_of
from tests.simulator.hosts import Birth
from tests.simulator.state import Json


class Valley:
    """The machines of all servers of one simulator."""

    def __init__(self, root: Path, effects: Effects | None = None) -> None:
        self.root, self.effects = root, effects or Effects()
        root.mkdir(parents=True, exist_ok=True)
        self._net = f"127.{random.randrange(1, 255)}.{random.randrange(255)}"
        self._numbers = itertools.count(1)
        self._plots: dict[int, Plot] = {}
        self._fates: list[tuple[str, str]] = []
        self._lock = threading.RLock()

    # What goes wrong

    @contextlib.contextmanager
    def fated(self, fate: str, pattern: str) -> Iterator[None]:
        """Machines of that name that are born while the block runs end so: SILENT or STILLBORN."""
        self._fates.append((pattern, fate))
        try:
            yield
        finally:
            self._fates.remove((pattern, fate))

    # What the simulator tells

    def act(self, command: str, birth: Birth) -> None:
        with self._lock:
            plot = self._plots.get(birth.number)
            if plot is None:
                where = folder_of(self.root, _address(birth))
                plot = self._plots[birth.number] = Plot(where, f"{self._net}.{next(self._numbers)}")
            match command:
                case "start_server":
                    self._boot(plot, birth)
                case "stop_server" | "shutdown_server":
                    _cut(plot)
                case "reboot_server" | "reset_server":
                    _cut(plot)
                    self._boot(plot, birth)
                case "rebuild_server":
                    _clear(plot)
                    self._boot(plot, birth)
                case "delete_server":
                    _clear(plot)

    def guard(self, number: int, rules: Sequence[Json] | None) -> None:
        pass  # who may reach whom is the hosts' to show

    def stopped(self, number: int) -> bool:
        return False

    def _boot(self, plot: Plot, birth: Birth) -> None:
        if not plot.folder.exists():
            fates = (fate for pattern, fate in self._fates if fnmatch.fnmatch(birth.name, pattern))
            _born(plot, birth, next(fates, WELL))
        plot.switch(on=True)
        for program in plot.enabled():
            processes.start(plot.runs, program)

    # How one gets there

    def enter(self, key: SecretStr) -> "ValleyWays":
        """Ways onto the machines of the forest whose SSH key this is."""
        return ValleyWays(self.root, key, self.effects)

    # What tests see of it

    def __getitem__(self, node: str) -> Plot:
        with self._lock:
            return next(each for each in self._plots.values() if each.folder.exists() and each.name == node)

    def pids(self, forest: str) -> dict[str, int | None]:
        """The process ids of the forest's servers, by the names of their nodes."""
        with self._lock:
            there = {each.name: each for each in self._plots.values() if each.folder.exists()}
        nodes = sorted(name for name in there if name.startswith(f"{forest}-node-"))
        return {name: LocalMachine(name, there[name].runs).pid(NATS) for name in nodes}

    def clear(self, forest: str = "*") -> None:
        """Stop everything that still runs of the forest, and empty the disks."""
        with self._lock:
            for plot in self._plots.values():
                if plot.folder.exists() and fnmatch.fnmatch(plot.name, f"{forest}-node-*"):
                    _clear(plot)


class ValleyWays:
    """Ways onto the servers of one forest, whose *key* opens them."""

    def __init__(self, root: Path, key: SecretStr, effects: Effects) -> None:
        self._root, self._key, self._effects = root, key, effects

    def machine(self, server: Server) -> ValleyMachine:
        known = (server.metadata.get(each) for each in ("host_key", "host_key_next"))
        keys = tuple(filter(None, known))
        if not keys:
            raise RefusedError(f"No host key of {server.name} is recorded.")
        return ValleyMachine(server.name, self._root, server.ip, keys, self._key, self._effects)

    def beside(self, server: Server) -> Beside:
        return one_server(server)

    def store(self, server: Server) -> StoreState:
        machine = self.machine(server)
        return store_state(machine, was_started=machine.was_started())


def _address(birth: Birth) -> str:
    """The address of a server as the provider tells it."""
    return birth.ipv6.replace("/64", "1") if birth.ipv6 else str(birth.ipv4)


def _born(plot: Plot, birth: Birth, fate: str) -> None:
    """The first breath of a machine: what cloud-init does with its user data, as far as it is known here."""
    told = yaml.safe_load(birth.user_data) if birth.user_data.startswith("#cloud-config") else {}
    plot.runs.mkdir(parents=True)
    for file in told.get("write_files", ()):
        path = plot.on_disk(file["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file["content"])
        path.chmod(int(file["permissions"], 8))
    for command in told.get("runcmd", ()):
        if command[:2] == ["install", "-d"]:
            plot.on_disk(command[-1]).mkdir(parents=True, exist_ok=True)
    keys = told.get("ssh_keys") or {}  # without any, a machine makes its own
    made = openssh.from_seed(os.urandom(openssh.SEED_BYTES)).private
    plot.birth_key.parent.mkdir(parents=True, exist_ok=True)
    plot.birth_key.write_text(keys.get("ed25519_private", made))
    plot.describe(birth.name, fate, [*birth.ssh_keys, *told.get("ssh_authorized_keys", ())])


def _cut(plot: Plot) -> None:
    """Nothing that runs there does another thing."""
    plot.switch(on=False)
    for name in (WORKLOAD, NATS):
        process = processes.find(plot.runs, name)
        if process:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                process.wait(timeout=10)


def _clear(plot: Plot) -> None:
    if plot.folder.exists():
        _cut(plot)
        shutil.rmtree(plot.folder)
