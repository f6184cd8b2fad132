"""Two devices, one registry on a WebDAV server, and one clock that is off: nothing grows more than once."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from deployments.register import root
from morpheus import kept, keyring
from morpheus.registry import Registry
from tests.e2e.conftest import Home
from tests.e2e.test_two_controllers import Controller, Field
from tests.flows.valleys import Valley
from tests.hetzner.project import public_key, simulated
from tests.servers.fixtures import own_folder
from tests.servers.webdav import WebDav
from tests.simulator import Simulator

pytestmark = [pytest.mark.servers, pytest.mark.timeout(500)]  # each wait has a bound of its own

GROWTH = {"enabled": True, "cooldown_minutes": 60, "max_nodes": 5}


@dataclass
class Device(Home):
    """A user at the shared registry of a simulated project."""

    server: WebDav | None = None

    @property
    def registry(self) -> Registry:
        assert self.server
        return Registry(self.server.store())

    def settle(self, simulator: Simulator, valley: Valley) -> None:
        assert self.server
        url, key = f"{simulator.url}/v1", self.path / "key"
        key.with_suffix(".pub").write_text(public_key())
        hetzner = {"token": simulator.token, "api_url": url, "boxes_url": url, "ipv6_target": "::1"}
        opened = {"username": self.server.username, "password": self.server.password}
        told = {
            "machine": {"provider": "hetzner", "hetzner": hetzner, "ssh": {"key_path": str(key)}},
            "registry": {"type": "storagebox", "url": self.server.url(), **opened},
            "growth": GROWTH,
        }
        self.settings(yaml.safe_dump(told))
        into = os.pathsep.join([str(root() / "tests/e2e/into_valley"), str(root())])
        self.more |= {"PYTHONPATH": into, "VALLEY": str(valley.root)}


@dataclass
class Woods(Field):
    """A forest of three in the cloud that is just about to grow."""

    valley: Valley | None = None

    def check(self, nodes: int) -> None:
        forest = self.wait_grown(nodes)
        assert forest.used_numbers == tuple(range(1, nodes + 1))
        assert self.valley
        assert len([pid for pid in self.valley.pids("oak").values() if pid]) == nodes


@pytest.fixture
def devices(apache: WebDav, tmp_path: Path) -> Iterator[tuple[Woods, Device]]:
    """The first device, which planted the forest, and a second one with the same key."""
    valley, server = Valley(tmp_path / "valley"), own_folder(apache)
    first, second = (Device(tmp_path / name, server=server) for name in ("first", "second"))
    with simulated(hosts=valley) as simulator:
        for each in (first, second):
            each.settle(simulator, valley)
        done = first.morpheus("plant", "cloud", "medium", "--name", "oak")
        assert done.code == 0, done.err
        key = kept.key(first.data, first.registry.read().registry_id or "")
        assert key
        second.more[keyring.VARIABLE] = key.get_secret_value()
        woods = Woods(first, valley=valley)
        woods.rest()
        try:
            yield woods, second
        finally:
            for controller in woods.controllers:
                controller.end()
            valley.clear()


@pytest.mark.parametrize("minutes", [10])  # ahead: by that clock a cooldown is over sooner
def test_a_clock_that_is_off_lets_no_forest_grow_twice(devices: tuple[Woods, Device], minutes: int) -> None:
    oak, other = devices
    first, second = oak.start(), Controller(other, minutes)
    oak.controllers.append(second)
    for each in (first, second):
        each.wait_heard()

    for nodes in (4, 5):
        oak.home.let_grow("oak")
        oak.wait_grown(nodes)
        for each in (first, second):
            each.wait_heard(2)  # which it decided when the forest had grown
        oak.check(nodes)

    assert len(first.grew) + len(second.grew) == 2
    others = {line.strip() for line in (*first.said, *second.said) if not line.startswith("grew")}
    assert others <= {"RefusedError", "ForestBusyError", "OvertakenError"}
