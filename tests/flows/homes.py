"""Users of the simulated project, each with a machine of their own, and somebody else in the project."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcloud
import pytest
import yaml

from morpheus import kept, keyring, site
from morpheus import settings as config
from morpheus.forest import Forest
from tests.hetzner.project import public_key
from tests.servers.s3 import KEY_ID, S3, SECRET
from tests.simulator import Simulator

# The load of this computer, which all machines share, makes no forest of these tests grow.
UNMOVED = {"threshold_cpu": 100, "threshold_memory": 100, "threshold_storage": 100}


@dataclass
class Home:
    """A user with a machine of their own: settings and a data folder."""

    folder: Path
    simulator: Simulator
    patch: pytest.MonkeyPatch

    def settle(self, *, registry: dict[str, str] | None = None, **more: Any) -> "Home":
        """Write morpheus.yaml, *more* beside what leads to the project, and be at home."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "key.pub").write_text(public_key())
        url = f"{self.simulator.url}/v1"
        given = {"token": self.simulator.token, "api_url": url, "boxes_url": url, "ipv6_target": "::1"}
        hetzner = given | more.pop("hetzner", {})
        machine = {"provider": "hetzner", "hetzner": hetzner, "ssh": {"key_path": str(self.folder / "key")}}
        text = {"machine": machine, "registry": registry or {"type": "local"}, "growth": UNMOVED, **more}
        (self.folder / "morpheus.yaml").write_text(yaml.safe_dump(text))
        return self.enter()

    def enter(self) -> "Home":
        """Be this user from now on."""
        self.patch.setenv("MORPHEUS_CONFIG", str(self.folder / "morpheus.yaml"))
        self.patch.setenv("MORPHEUS_DATA_DIR", str(self.folder / "data"))
        self.patch.delenv(keyring.VARIABLE, raising=False)
        return self

    def borrow_key(self, other: "Home") -> None:
        """Bring the key of the registry from *other*, which is at the same one."""
        key = kept.key(other.folder / "data", self.registry_id)
        assert key
        self.patch.setenv(keyring.VARIABLE, key.get_secret_value())

    @property
    def forests(self) -> dict[str, Forest]:
        return {each.forest.name: each.forest for each in site.everything(config.load())}

    @property
    def registry_id(self) -> str:
        return site.require_shared(config.load()).read().registry_id or ""

    @property
    def text(self) -> str:
        """The registry as it is stored."""
        return site.open_store(config.load().registry).read().text or ""


def client(simulator: Simulator) -> hcloud.Client:
    """The Cloud Console, or somebody else in the project."""
    return hcloud.Client(simulator.token, api_endpoint=f"{simulator.url}/v1")


def protect(simulator: Simulator, name: str, *, wanted: bool = True) -> None:
    server = client(simulator).servers.get_by_name(name)
    assert server
    server.change_protection(delete=wanted, rebuild=wanted)


def nothing_is_left(simulator: Simulator) -> None:
    assert simulator.billable() == []
    assert simulator.servers == {}
    assert simulator.firewalls == {}
    assert simulator.placement_groups == {}


def shared(s3: S3, path: str) -> dict[str, str]:
    return {"type": "s3", "url": s3.url(path), "username": KEY_ID, "password": SECRET}
