"""Devices that share a simulated project whose boxes have files."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from morpheus import kept
from morpheus.cli.app import app
from morpheus.kept import Access
from tests.servers.boxes import Files

MAKE = ("--storagebox", "--yes")
POST, SUB = "POST /storage_boxes", "POST /storage_boxes/{id}/subaccounts"
FORGOTTEN = ("HETZNER_API_TOKEN", "HCLOUD_TOKEN", "STORAGEBOX_PASSWORD", "MORPHEUS_TARGET_PASSWORD")


@dataclass
class Device:
    """A home, and what was said in it."""

    files: Files
    folder: Path
    hetzner: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        url = f"{self.files.simulator.url}/v1"
        usual = {"api_url": url, "boxes_url": url, "ipv6_target": "::1"}
        self.settings.write_text(
            f"# mine\nmachine:\n  hetzner: {json.dumps(usual | self.hetzner)}  # JSON is YAML\n"
        )

    @property
    def settings(self) -> Path:
        return self.folder / "morpheus.yaml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),
            "MORPHEUS_DATA_DIR": str(self.data),
            "MORPHEUS_CONFIG": str(self.settings),
            "HETZNER_API_TOKEN": self.files.simulator.token,
            "SSL_CERT_FILE": str(self.files.certificate),
        }

    @property
    def known(self) -> tuple[Access, ...]:
        return kept.known(self.data)

    def run(self, *words: str, typed: str | None = None, **environment: str) -> Result:
        forgotten = dict.fromkeys(FORGOTTEN)
        done = CliRunner().invoke(
            app, words, input=typed, env={**forgotten, **self.environment, **environment}
        )
        self.said.append(done.output)
        return done

    def init(self, *words: str, typed: str | None = None, **environment: str) -> Any:
        """What the command says in JSON, when it succeeds."""
        done = self.run("init", *words, "--output", "json", typed=typed, **environment)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def refused(self, *words: str, typed: str | None = None, **environment: str) -> tuple[int, str]:
        """The exit code, and the sentence."""
        done = self.run("init", *words, typed=typed, **environment)
        assert (done.exit_code != 0, done.stdout) == (True, ""), done.output
        return done.exit_code, " ".join(done.stderr.split())

    def exported(self) -> str:
        """The transfer text, which alone is on stdout and alone holds secrets on purpose."""
        done = self.run("init", "--export")
        assert done.exit_code == 0, done.output
        self.said[-1] = done.stderr
        assert "opens the registry to whoever reads it" in done.stderr
        (line,) = done.stdout.splitlines()
        return line


NewDevice = Callable[..., Device]


def secrets_of(*devices: Device) -> set[str]:
    """Everything that no output and no log may show."""
    found = {device.files.simulator.token for device in devices}
    for device in devices:
        for access in device.known:
            found |= {each.get_secret_value() for each in (access.password, access.key) if each}
    for box in (box for device in devices for box in device.files.simulator.storage_boxes.values()):
        found |= {box.password, *(each.password for each in box.subaccounts.values())}
    return found
