"""The provider as tests use it: the real client, a simulated project, machines in memory on its servers."""

import base64
import contextlib
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from morpheus.cloud import Order, Server
from morpheus.cloud.hetzner import HetznerCloud
from morpheus.errors import TransientError
from morpheus.machine import NATS, StoreState, store_marker, store_state
from morpheus.machine.beside import Beside
from morpheus.settings import FirewallSettings, HetznerSettings, MachineSettings, SshSettings
from tests.fake_cloud import FakeMachine, one_server
from tests.simulator import Latency, Simulator

OURS, THEIRS = "0" * 32, "f" * 32


def public_key(number: int = 0) -> str:
    """A public key; nobody has its private half."""
    parts = (b"ssh-ed25519", number.to_bytes(32, "big"))
    blob = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} someone@somewhere"


class MemoryWays:
    """A machine in memory on each server that the project has."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._machines: dict[str, FakeMachine] = {}

    def machine(self, server: Server) -> FakeMachine:
        there = self._simulator.servers.get(server.name)
        if there is None:
            return FakeMachine(server.name)
        return self._machines.setdefault(str(there.id), self._born(server.name))

    def beside(self, server: Server) -> Beside:
        return one_server(server)

    def store(self, server: Server) -> StoreState:
        machine = self.machine(server)
        return store_state(machine, was_started=bool(machine.started[NATS]))

    def _born(self, name: str) -> FakeMachine:
        machine = FakeMachine(name)
        machine.files[machine.layout.marker] = store_marker(name.rpartition("-node-")[0], name, "now")
        return machine


def machine_settings(simulator: Simulator, folder: Path, **hetzner: Any) -> MachineSettings:
    """Settings that lead to *simulator*; *hetzner* replaces some of that part."""
    key = folder / "key.pub"
    key.write_text(public_key())
    url = f"{simulator.url}/v1"
    given = {"token": SecretStr(simulator.token), "api_url": url, "boxes_url": url, "ipv6_target": "::1"}
    settings = HetznerSettings(**(given | hetzner))
    return MachineSettings(provider="hetzner", hetzner=settings, ssh=SshSettings(key_path=folder / "key"))


def provider(simulator: Simulator, folder: Path, *, ways: bool = False, **hetzner: Any) -> HetznerCloud:
    settings = machine_settings(simulator, folder, **hetzner)
    if not ways:
        return HetznerCloud(settings, FirewallSettings())
    memory = MemoryWays(simulator)
    return HetznerCloud(settings, FirewallSettings(), enter=lambda _: memory).entered_with(SecretStr("key"))


def order(number: int, *, forest: str = "oak", registry_id: str = OURS, run: str = "run-1") -> Order:
    return Order(f"{forest}-node-{number}", forest, registry_id, run)


def ensure(cloud: HetznerCloud, count: int, **more: Any) -> list[Server]:
    """Servers 1 to *count*, all at once."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(cloud.ensure_server, [order(k, **more) for k in range(1, count + 1)]))


def repeat(cloud: HetznerCloud, one: Order, times: int = 5) -> None:
    """As a task does: until it succeeds, a few times."""
    for k in range(times):
        try:
            cloud.ensure_server(one)
        except TransientError:
            if k == times - 1:
                raise
        else:
            return


@contextlib.contextmanager
def simulated(**more: Any) -> Iterator[Simulator]:
    """A project in which everything is done at once; the schema is kept by all requests and answers."""
    simulator = Simulator(**({"latency": Latency(scale=0)} | more))
    with simulator.running():
        yield simulator
    assert simulator.violations == []
