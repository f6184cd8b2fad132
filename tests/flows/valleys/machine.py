"""A machine of a valley, as who has a forest's SSH key enters it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr

from morpheus import openssh
from morpheus.errors import MachineError, MorpheusError, NotReadyError, UnreachableError
from morpheus.machine import Layout, Program, places
from morpheus.machine.local import LocalMachine
from morpheus.machine.ssh.opening import wrong_host
from morpheus.machine.ssh.way import Way, fingerprint
from tests.flows.hills import Effects
from tests.flows.valleys.copies import NOWHERE, standing, write_copies
from tests.flows.valleys.plots import SILENT, STILLBORN, Plot


class ValleyMachine:
    """The machine at *address*, entered with *key* when it shows one of *host_keys*."""

    layout: Layout = places.LAYOUT

    def __init__(  # noqa: PLR0917  # each one is a fact of the way
        self,
        name: str,
        root: Path,
        address: str,
        host_keys: tuple[str, ...],
        key: SecretStr,
        effects: Effects,
    ) -> None:
        self._name, self._root, self._effects = name, root, effects
        self._way = Way(address, host_keys)
        self._public = openssh.public_line(key.get_secret_value())

    @property
    def name(self) -> str:
        return self._name

    # Being entered

    def enter(self, timeout: float) -> None:
        self._effects.happens(f"enter {self._name}")
        try:
            plot = self._entered()
        except UnreachableError as error:  # what does not answer now never will
            raise NotReadyError(
                f"Waited {timeout:.0f} s for {self._name} to let us in; last seen: {error}"
            ) from error
        if plot.fate == STILLBORN:
            raise MachineError(f"cloud-init of {self._name} failed: the valley has broken this birth.")

    def make_host_key(self) -> str:
        plot = self._entered()
        if not plot.own_key.exists():
            self._effects.happens(f"make-key {self._name}")
            plot.own_key.write_text(openssh.from_seed(os.urandom(openssh.SEED_BYTES)).private)
        return openssh.public_line(plot.own_key.read_text())

    def take_host_key(self) -> None:
        self.make_host_key()
        plot = self._entered()
        self._effects.happens(f"take-key {self._name}")
        plot.key_setting.parent.mkdir(exist_ok=True)
        plot.key_setting.write_text("HostKey /etc/ssh/morpheus_host_key")
        self._effects.happens(f"retire-key {self._name}")
        self._entered().birth_key.unlink(missing_ok=True)  # only who accepts the new one gets this far

    # Files

    def put(self, path: str, content: bytes, *, mode: int = 0o600, owner: str | None = None) -> bool:
        self._effects.happens(f"put {self._name} {Path(path).name}")
        plot = self._entered()
        changed = _files(plot).put(str(plot.on_disk(path)), content, mode=mode, owner=owner)
        if changed:
            self._effects.noted(f"changed {self._name} {Path(path).name}")
        return changed

    def read(self, path: str) -> bytes | None:
        plot = self._entered()
        return _files(plot).read(str(plot.on_disk(path)))

    def run(self, *argv: str, timeout: float = 30.0) -> str:
        plot = self._entered()
        if "gauges" in argv:  # its load, which is this computer's
            there = (str(plot.on_disk(each)) if each.startswith("/var/") else each for each in argv)
            return _files(plot).run(*there, timeout=timeout)
        raise MachineError(f"Cannot run {argv[0]} on {self._name}: there are no commands in a valley.")

    def was_started(self) -> bool:
        """Whether a NATS server ever wrote here."""
        plot = self._entered()
        return any(path != self.layout.marker for path in plot.files(self.layout.store))

    # Programs

    def start(self, program: Program) -> None:
        plot = self._entered()
        if self.pid(program.name):
            return
        self._effects.happens(f"start {self._name} {program.name}")
        settings = "".join(f"{key}={value}\n" for key, value in program.env.items())
        _files(plot).put(str(plot.on_disk(places.SETTINGS) / f"{program.name}.env"), settings.encode())
        stood = standing(program, plot, self._root)
        _programs(plot).start(stood)
        plot.enable(stood)
        self._effects.noted(f"started {self._name} {program.name}")

    def reload(self, name: str) -> None:
        plot = self._entered()
        if self.pid(name):
            self._effects.happens(f"reload {self._name} {name}")
            write_copies(plot, self._root)
            _programs(plot).reload(name)

    def stop(self, name: str) -> None:
        plot = self._entered()
        self._effects.happens(f"stop {self._name} {name}")
        plot.disable(name)
        _programs(plot).stop(name)

    def pid(self, name: str) -> int | None:
        return _programs(self._entered()).pid(name)

    @contextlib.contextmanager
    def forward(self, port: int) -> Iterator[tuple[str, int]]:
        self._effects.noted(f"reach {self._name} {port}")
        try:
            here = self._entered().here
        except MorpheusError:  # as with a tunnel, who connects learns it
            here = NOWHERE
        yield (here, port)

    def _entered(self) -> Plot:
        """What there is, for who is let in.

        Raises:
            UnreachableError: nobody answers.
            RefusedError: another machine answers.
            MachineError: the forest's key is not accepted.
        """
        plot = Plot.find(self._root, self._way.address)
        if plot is None or not plot.is_on or plot.fate == SILENT:
            raise UnreachableError(f"{self._name} ({self._way.place}) does not answer.")
        if plot.shown not in self._way.host_keys:
            raise wrong_host(self._name, self._way, fingerprint(plot.shown))
        if self._public not in plot.authorized:
            raise MachineError(f"{self._name} ({self._way.place}) does not accept the forest's SSH key.")
        return plot


def _files(plot: Plot) -> LocalMachine:
    return LocalMachine(plot.folder.name, plot.disk)


def _programs(plot: Plot) -> LocalMachine:
    return LocalMachine(plot.folder.name, plot.runs)
