"""A forest configured as on machines of their own, certificates and all, whose nodes are processes on ::1."""

import ssl
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from morpheus.machine import pki
from morpheus.nats import config, listeners
from morpheus.nats.listeners import Openings, Tls
from tests.nats.grove import Grove

PASSWORD = "a-password-of-32-random-characters"


class Clearing(Grove):
    """Nodes on ::1 whose routes demand certificates of ``authority``; those of ``foreign`` have others'."""

    def __init__(self, folder: Path, *numbers: int, openings: Openings | None = None) -> None:
        self.now = datetime.now(UTC)
        self.authority = pki.found("oak", self.now)
        self.foreign: dict[str, pki.Authority] = {}
        self.openings = openings or Openings()
        self.leafnode_port = 0
        super().__init__(folder, *numbers)

    def add(self, *numbers: int) -> list[str]:
        names = super().add(*numbers)
        self.forest = self.forest.with_nodes(*(replace(self.node(name), ip="::1") for name in names))
        return names

    def tls(self, name: str) -> Tls:
        folder = self.machine(name).folder
        return Tls(*(str(folder / file) for file in ("ca.crt", "node.crt", "node.key")))

    def configure(self, names: Iterable[str]) -> None:
        for name in names:
            machine, tls = self.machine(name), self.tls(name)
            authority = self.foreign.get(name, self.authority)
            issued = authority.issue(["::1"], self.now)
            texts = (self.authority.certificate, issued.key, issued.certificate)
            for path, text in zip((tls.authority, tls.key, tls.certificate), texts, strict=True):
                machine.put(path, text.encode())
            heard = listeners.of_machine(self.node(name), self.openings, PASSWORD, tls)
            files = config.compose(self.forest, self.node(name), machine.layout, self.access, heard)
            for path, text in files.files(machine.layout).items():
                machine.put(path, text.replace(":7777", f":{self.leafnode_port}").encode())

    def trust(self) -> ssl.SSLContext:
        """What a client from outside trusts: the forest's authority."""
        return ssl.create_default_context(cadata=self.authority.certificate)
