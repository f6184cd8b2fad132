"""The host key is changed in an order that survives an end at any point."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count, product
from pathlib import Path

import pytest

from morpheus.errors import MachineError, NotReadyError, RefusedError
from morpheus.machine.ssh import Connections, SshMachine, rotation
from morpheus.machine.ssh.rotation import Found, HostKeys, Step, next_step
from tests.machine.conftest import wait_for
from tests.servers.sshd import Sshd

BIRTH, OWN, OTHER = "ssh-ed25519 birth", "ssh-ed25519 own", "ssh-ed25519 other"


@pytest.mark.parametrize(
    ("recorded", "found", "step"),
    [
        (HostKeys(BIRTH), Found(None, BIRTH, others_left=True), Step.MAKE),
        (HostKeys(BIRTH), Found(OWN, BIRTH, others_left=True), Step.RECORD_NEXT),
        (HostKeys(BIRTH, OWN), Found(OWN, BIRTH, others_left=True), Step.ACTIVATE),
        (HostKeys(BIRTH, OWN), Found(OWN, OWN, others_left=True), Step.RECORD),
        (HostKeys(OWN), Found(OWN, OWN, others_left=True), Step.RETIRE),
        (HostKeys(OWN), Found(OWN, OWN, others_left=False), Step.DONE),
        # What no run of ours leaves, but a person may:
        (HostKeys(BIRTH, OTHER), Found(OWN, BIRTH, others_left=True), Step.RECORD_NEXT),
        (HostKeys(BIRTH, OTHER), Found(None, BIRTH, others_left=True), Step.MAKE),
        (HostKeys(BIRTH, OTHER), Found(None, OTHER, others_left=False), Step.MAKE),
        (HostKeys(OWN, OTHER), Found(OWN, OWN, others_left=False), Step.RECORD),
        (HostKeys(OWN), Found(OWN, BIRTH, others_left=True), Step.ACTIVATE),
    ],
)
def test_the_next_step_follows_from_record_and_machine(recorded: HostKeys, found: Found, step: Step) -> None:
    assert next_step(recorded, found) is step


NUMBERS = count()


@dataclass
class World:
    """A record and a machine in memory; a connection is possible while the shown key is recorded."""

    recorded: HostKeys
    found: Found

    def go(self, step: Step) -> None:
        match step:
            case Step.MAKE:
                self.found = replace(self.found, made=f"ssh-ed25519 made-{next(NUMBERS)}")
            case Step.RECORD_NEXT | Step.RECORD:
                self.recorded = rotation.recorded_after(self.found, step)
            case Step.ACTIVATE:
                assert self.found.made
                self.found = replace(self.found, shown=self.found.made)
            case Step.RETIRE:
                assert self.found.shown == self.found.made
                self.found = replace(self.found, others_left=False)


KEYS = (BIRTH, OWN, OTHER)


def worlds() -> Iterator[World]:
    """Every record beside every machine that can be entered by it."""
    for host_key, coming, made, others_left in product(KEYS, (None, *KEYS), (None, *KEYS), (True, False)):
        recorded = HostKeys(host_key, coming)
        for shown in set(recorded.accepted):
            yield World(recorded, Found(made, shown, others_left))


def test_from_everywhere_the_same_end_is_reached_and_never_a_locked_door() -> None:
    for world in worlds():
        for _ in range(6):
            world.go(next_step(world.recorded, world.found))
            assert world.found.shown in world.recorded.accepted

        own = str(world.found.made)
        assert (world.recorded, world.found) == (HostKeys(own), Found(own, own, others_left=False))
        assert next_step(world.recorded, world.found) is Step.DONE


class StoppedError(Exception):
    """The run ends here, as by a power cut."""


class Registry:
    """What is recorded; the test may end the run before or after a change."""

    def __init__(self, keys: HostKeys) -> None:
        self.keys = keys

    def write(self, keys: HostKeys) -> None:
        self.keys = keys


@pytest.fixture
def registry(server: Sshd) -> Registry:
    return Registry(HostKeys(server.host_key))


def rotate(machine: SshMachine, registry: Registry, folder: Path) -> SshMachine:
    return rotation.rotate(machine, registry.keys, registry.write, folder=str(folder))


@pytest.mark.servers
def test_in_the_end_only_a_key_that_was_made_there_is_shown_and_known(
    server: Sshd, connections: Connections, registry: Registry
) -> None:
    machine = rotate(server.machine(connections), registry, server.folder)

    own = registry.keys.host_key
    assert registry.keys == HostKeys(own)
    assert own != server.host_key
    assert machine.way.host_keys == (own,)
    assert machine.run("echo", "here") == "here\n"
    assert not list(server.folder.glob("ssh_host_*"))
    assert (server.folder / "morpheus_host_key").stat().st_mode & 0o777 == 0o600
    with Connections(server.key) as fresh:
        assert server.machine(fresh, host_keys=(own,)).run("echo", "here") == "here\n"


@pytest.mark.servers
def test_who_only_knows_the_birth_key_is_not_let_near_any_more(
    server: Sshd, connections: Connections, registry: Registry
) -> None:
    rotate(server.machine(connections), registry, server.folder)

    with Connections(server.key) as fresh, pytest.raises(RefusedError):
        server.machine(fresh, host_keys=(server.host_key,)).run("true")


@pytest.mark.servers
def test_rotating_again_changes_nothing(server: Sshd, connections: Connections, registry: Registry) -> None:
    rotate(server.machine(connections), registry, server.folder)
    before = registry.keys

    rotate(server.machine(connections), registry, server.folder)

    assert registry.keys == before


@pytest.mark.servers
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [each for each in Step if each is not Step.DONE])
def test_a_run_that_ends_at_any_step_is_gone_on_with(
    server: Sshd, registry: Registry, step: Step, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, Connections(server.key) as connections:
        _end_run(patch, registry, step, when)
        with pytest.raises(StoppedError):
            rotate(server.machine(connections), registry, server.folder)

    with Connections(server.key) as connections:  # of another device, which knows what is recorded
        rotate(server.machine(connections), registry, server.folder)

    own = registry.keys.host_key
    assert registry.keys == HostKeys(own)
    assert own != server.host_key
    assert not list(server.folder.glob("ssh_host_*"))
    assert not list(server.folder.glob(".morpheus.*"))


def _end_run(patch: pytest.MonkeyPatch, registry: Registry, step: Step, when: str) -> None:
    """Let the run end before or after the effect of *step*."""
    names = {Step.MAKE: "made_key", Step.ACTIVATE: "activate", Step.RETIRE: "retire_birth"}
    if step in names:
        patch.setattr(rotation, names[step], _ending(getattr(rotation, names[step]), when))
        return
    write = registry.write

    def writing(keys: HostKeys) -> None:
        ours = (step is Step.RECORD_NEXT) == bool(keys.host_key_next)
        (_ending(write, when) if ours else write)(keys)

    patch.setattr(registry, "write", writing)


def _ending(act: Callable[..., object], when: str) -> Callable[..., object]:
    def ending(*arguments: object, **more: object) -> object:
        if when == "after":
            act(*arguments, **more)
        raise StoppedError

    return ending


@pytest.mark.servers
def test_a_reload_that_never_comes_leaves_both_keys_accepted(
    server: Sshd, connections: Connections, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "PROVEN_WITHIN", 0.2)
    (server.folder / "units" / "ssh.service").write_text("#!/bin/sh\n")

    with pytest.raises(NotReadyError, match="to show its own host key; last seen: it shows ssh-ed25519"):
        rotate(server.machine(connections), registry, server.folder)

    assert registry.keys.host_key == server.host_key
    assert registry.keys.host_key_next
    assert list(server.folder.glob("ssh_host_*"))


@pytest.mark.servers
def test_settings_that_sshd_cannot_read_are_not_brought_into_use(
    server: Sshd, connections: Connections, registry: Registry
) -> None:
    with (server.folder / "sshd_config").open("a") as file:
        file.write("Nonsense yes\n")

    with pytest.raises(MachineError, match="Nonsense"):
        rotate(server.machine(connections), registry, server.folder)

    assert not list((server.folder / "sshd_config.d").iterdir())


@pytest.mark.servers
def test_settings_that_do_not_include_ours_are_told(
    server: Sshd, connections: Connections, registry: Registry
) -> None:
    config = server.folder / "sshd_config"
    config.write_text("\n".join(each for each in config.read_text().splitlines() if "Include" not in each))

    with pytest.raises(MachineError, match="does not include"):
        rotate(server.machine(connections), registry, server.folder)

    assert not list((server.folder / "sshd_config.d").iterdir())


@pytest.mark.servers
def test_the_birth_key_is_not_deleted_while_it_is_shown(server: Sshd, entered: SshMachine) -> None:
    with pytest.raises(MachineError, match="does not show a host key of its own"):
        rotation.retire_birth(entered, folder=str(server.folder))

    assert list(server.folder.glob("ssh_host_*"))


@pytest.mark.servers
def test_a_restart_of_sshd_shows_the_new_key(
    server: Sshd, connections: Connections, registry: Registry
) -> None:
    machine = rotate(server.machine(connections), registry, server.folder)

    server.stop()
    server.start()

    assert machine.run("echo", "here") == "here\n"
    wait_for(lambda: server.sessions == 1)
