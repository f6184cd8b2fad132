"""What there is of one machine, as files: its disk, what runs on it, whether it is on."""

import contextlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morpheus import openssh
from morpheus.files import replace_file
from morpheus.machine import Program, places
from tests.folders import standing

WELL, SILENT, STILLBORN = "well", "silent", "stillborn"  # how births end


def folder_of(root: Path, address: str) -> Path:
    """The folder of the machine that has *address* for the provider."""
    return root / address.replace(":", "-")


@dataclass(frozen=True, slots=True)
class Plot:
    """The place of one machine below *folder*; *here* is its address on this computer."""

    folder: Path
    here: str

    @classmethod
    def find(cls, root: Path, address: str) -> "Plot | None":
        """The machine at *address*; None where there is none."""
        here = folder_of(root, address) / "here"
        return cls(here.parent, here.read_text()) if address and here.exists() else None

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def runs(self) -> Path:
        """Where programs run: beside their disk, so that what was delivered stays as it was delivered."""
        return self.folder / "runs"

    def on_disk(self, path: str) -> Path:
        return self.disk / path.lstrip("/")

    def files(self, folder: str = "/") -> dict[str, bytes]:
        """What stands on its disk below *folder*, by path."""
        there = standing(self.on_disk(folder))
        return {f"/{path.relative_to(self.disk)}": content for path, content in there.items()}

    # Its life

    def describe(self, name: str, fate: str, authorized: Sequence[str]) -> None:
        text = {"name": name, "fate": fate, "authorized": list(authorized)}
        replace_file(self.folder / "birth.json", json.dumps(text).encode())
        replace_file(self.folder / "here", self.here.encode())

    def switch(self, *, on: bool) -> None:
        if on:
            (self.folder / "on").touch()
        else:
            (self.folder / "on").unlink(missing_ok=True)

    @property
    def is_on(self) -> bool:
        return (self.folder / "on").exists()

    @property
    def name(self) -> str:
        return str(self._birth["name"])

    @property
    def fate(self) -> str:
        return str(self._birth["fate"])

    @property
    def authorized(self) -> list[str]:
        """Who may log in: key lines."""
        return list(self._birth["authorized"])

    @property
    def _birth(self) -> Any:
        return json.loads((self.folder / "birth.json").read_bytes())

    # Host keys

    @property
    def birth_key(self) -> Path:
        return self.on_disk("/etc/ssh/ssh_host_ed25519_key")

    @property
    def own_key(self) -> Path:
        return self.on_disk("/etc/ssh/morpheus_host_key")

    @property
    def key_setting(self) -> Path:
        """Where it is set that the own key is shown alone."""
        return self.on_disk("/etc/ssh/sshd_config.d/00-morpheus.conf")

    @property
    def shown(self) -> str:
        """The host key that it shows."""
        if not self.key_setting.exists():
            with contextlib.suppress(FileNotFoundError):  # it has just been taken out of use
                return openssh.public_line(self.birth_key.read_text())
        return openssh.public_line(self.own_key.read_text())

    # Programs

    def enable(self, program: Program) -> None:
        """Have *program* started again whenever the machine is switched on."""
        text = {"argv": program.argv, "env": dict(program.env), "ports": program.ports}
        self._units.mkdir(exist_ok=True)
        replace_file(self._units / program.name, json.dumps(text).encode())

    def disable(self, name: str) -> None:
        (self._units / name).unlink(missing_ok=True)

    def enabled(self) -> list[Program]:
        return [_program(each.name, json.loads(each.read_bytes())) for each in self._units.glob("*")]

    @property
    def _units(self) -> Path:
        return self.folder / "enabled"

    def lose_store(self) -> None:
        """Lose all of the JetStream store, as when a disk is lost."""
        shutil.rmtree(self.on_disk(places.STORE))


def _program(name: str, told: Any) -> Program:
    return Program(name, tuple(told["argv"]), told["env"], tuple(told["ports"]))
