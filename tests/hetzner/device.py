"""A device with a registry, whose settings lead to a simulated project."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from morpheus import site
from morpheus.cli.app import app
from morpheus.forest import Forest, Node, Price
from morpheus.plan import torn
from morpheus.registry import Registry
from morpheus.registry.local import LocalStore
from tests.simulator import Simulator
from tests.simulator.catalogue import IMAGES
from tests.simulator.state import ServerState


@dataclass
class Device:
    """A device whose settings lead to a simulated project, and its registry."""

    simulator: Simulator
    folder: Path
    dns: dict[str, str] = field(default_factory=dict)

    def settle(
        self, *, token: str | None, provider: str = "hetzner", ssh: Path | None = None, **more: str
    ) -> None:
        """Write the settings; *more* stands beside what leads to the project."""
        url = f"{self.simulator.url}/v1"
        hetzner = {"token": token, "api_url": url, "boxes_url": url, "ipv6_target": "::1", **more}
        text = {
            "dns": self.dns,
            "registry": {"type": "local", "url": str(self.folder / "registry.json")},
            "machine": {"provider": provider, "hetzner": hetzner, "ssh": {"key_path": ssh and str(ssh)}},
        }
        (self.folder / "morpheus.yaml").write_text(json.dumps(text))  # JSON is YAML

    def record(self, forest: str, nodes: int, kind: str = "hetzner") -> str:
        """Record a forest; returns the id of its registry."""
        store = LocalStore(self.folder / "registry.json") if kind == "hetzner" else None
        registry = Registry(store) if store else site.local_registry()
        price = Price(Decimal("0.0061"), Decimal("3.92")).metadata if kind == "hetzner" else {}
        names = (f"{forest}-node-{k}" for k in range(1, nodes + 1))
        named = tuple(Node(name, "2001:db8::1", "active", metadata=price) for name in names)
        registry.update(lambda document, _: document.with_forest(Forest(forest, kind, nodes=named)))
        return registry.read().registry_id or ""

    def leave(self, forest: str) -> None:
        """Record *forest* as a teardown does that did not come to its end."""
        Registry(LocalStore(self.folder / "registry.json")).update(
            lambda document, _: document.with_forest(torn(document.forests[forest]))
        )

    def run(self, *words: str) -> str:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        assert self.simulator.token not in done.output
        return done.stdout

    def json(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(*words, "--output", "json"))
        return found


def settled(simulator: Simulator, folder: Path, patch: pytest.MonkeyPatch) -> Device:
    for name in ("HETZNER_API_TOKEN", "HCLOUD_TOKEN"):
        patch.delenv(name, raising=False)
    patch.setenv("MORPHEUS_CONFIG", str(folder / "morpheus.yaml"))
    patch.setenv("MORPHEUS_DATA_DIR", str(folder / "data"))
    device = Device(simulator, folder)
    device.settle(token=simulator.token)
    return device


def put(simulator: Simulator, registry_id: str, names: Sequence[str], *, ipv4: str | None = None) -> None:
    """Servers that run, as if they had been made long ago."""
    world = simulator.world
    for name in names:
        number = world.new_id()
        world.servers[number] = ServerState(
            id=number,
            name=name,
            created=world.now(),
            labels={
                "managed-by": "morpheus",
                "registry-id": registry_id,
                "forest-id": name.rpartition("-node-")[0],
                "node-id": name,
            },
            server_type="cx23",
            location="fsn1",
            image=next(iter(IMAGES)),
            user_data="",
            ssh_keys=[],
            root_password=None,
            hypervisor=1,
            status="running",
            ipv4=ipv4,
            ipv6=f"2001:db8:{number:x}::/64",
            primary_ips={"ipv4": number, "ipv6": number},
        )
