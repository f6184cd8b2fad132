"""A device of which morpheus check asks everything."""

import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from typer.testing import CliRunner

from morpheus.cli.app import app
from tests.simulator import Simulator


def keygen(path: Path) -> Path:
    """A new pair: *path* and its public half beside it."""
    key = ed25519.Ed25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    path.with_name(f"{path.name}.pub").write_bytes(public + b" someone@somewhere\n")
    return path


class Device:
    """A device whose settings lead to a simulated project."""

    def __init__(self, simulator: Simulator, folder: Path) -> None:
        self.simulator, self.folder = simulator, folder
        url = f"{simulator.url}/v1"
        self.hetzner: dict[str, Any] = {
            "token": simulator.token,
            "api_url": url,
            "boxes_url": url,
            "ipv6_target": "::1",
        }
        self.machine: dict[str, Any] = {"ssh": {"key_path": str(keygen(folder / "key"))}}
        self.registry: dict[str, Any] = {"type": "local"}
        self.dns: dict[str, Any] = {}

    def check(self, *words: str) -> tuple[int, list[dict[str, Any]]]:
        """The exit code, and the answers."""
        machine = {**self.machine, "hetzner": self.hetzner}
        text = json.dumps({"registry": self.registry, "machine": machine, "dns": self.dns})  # JSON is YAML
        (self.folder / "morpheus.yaml").write_text(text)
        done = CliRunner().invoke(app, ["check", *words, "--output", "json"])
        found = json.loads(done.stdout)
        assert found["ok"] == all(each["ok"] for each in found["answers"]) == (done.exit_code == 0)
        assert self.simulator.token not in done.output
        return done.exit_code, found["answers"]

    def failed(self, *words: str) -> tuple[int, str]:
        """The exit code, and what the only failed answer says."""
        code, answers = self.check(*words)
        (failure,) = [each for each in answers if not each["ok"]]
        return code, failure["says"]
