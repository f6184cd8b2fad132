"""A machine gets a host key of its own, in place of the one that stood in its user_data.

The birth key's private half can be read by every process on the machine for ever (cloud-init keeps user_data
below /var/lib/cloud, the metadata service too; neither is ours to change), so in the end nobody may accept
it. The order survives an end at any point, for at each the record holds every key that the machine may show:
a new key is made there; recorded, so that both are accepted; brought into use; proven by a new connection;
recorded as the only one; and then the birth key is deleted.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from morpheus.errors import MachineError, UnreachableError
from morpheus.machine.ssh import scripts
from morpheus.machine.ssh.machine import SshMachine
from morpheus.machine.ssh.way import plain
from morpheus.wait import wait_until

FOLDER = "/etc/ssh"
PROVEN_WITHIN = 10.0  # seconds for sshd to read its settings again


@dataclass(frozen=True, slots=True)
class HostKeys:
    """What is recorded of a node: the key that it shows, and the one that it is about to show."""

    host_key: str
    host_key_next: str | None = None

    @property
    def accepted(self) -> tuple[str, ...]:
        return (self.host_key, self.host_key_next) if self.host_key_next else (self.host_key,)


@dataclass(frozen=True, slots=True)
class Found:
    """How it stands on the machine.

    ``made`` is the key that was made there, ``shown`` the one by which it was entered, ``others_left``
    whether keys of its birth are there.
    """

    made: str | None
    shown: str
    others_left: bool


class Step(StrEnum):
    """What comes next on the way to a key that nobody else knows."""

    MAKE = "make"
    RECORD_NEXT = "record next"
    ACTIVATE = "activate"
    RECORD = "record"
    RETIRE = "retire"
    DONE = "done"


def next_step(recorded: HostKeys, found: Found) -> Step:
    """The next step from wherever an earlier run ended."""
    if found.made is None:
        return Step.MAKE
    if found.made not in recorded.accepted:
        return Step.RECORD_NEXT
    if found.shown != found.made:
        return Step.ACTIVATE
    if recorded != HostKeys(found.made):
        return Step.RECORD
    return Step.RETIRE if found.others_left else Step.DONE


def rotate(
    machine: SshMachine, recorded: HostKeys, record: Callable[[HostKeys], None], *, folder: str = FOLDER
) -> SshMachine:
    """Go all steps that are left; return the machine as it is to be entered from now on.

    Args:
        machine: the machine.
        recorded: what the registry holds of it.
        record: writes other keys into the registry.
        folder: where the machine keeps its sshd's settings and keys.

    Raises:
        UnreachableError: the machine gives no answer; go on later with what is recorded then.
        RefusedError: the machine shows a key that is not recorded.
        MachineError: it cannot do a step.
    """
    machine = machine.accepting(*recorded.accepted)
    found = look(machine, folder=folder)
    while (step := next_step(recorded, found)) is not Step.DONE:
        match step:
            case Step.MAKE:
                found = replace(found, made=made_key(machine, folder=folder))
            case Step.RECORD_NEXT | Step.RECORD:
                recorded = recorded_after(found, step)
                record(recorded)
                machine = machine.accepting(*recorded.accepted)
            case Step.ACTIVATE:
                found = replace(found, shown=activate(machine, str(found.made), folder=folder))
            case Step.RETIRE:
                retire_birth(machine, folder=folder)
                found = replace(found, others_left=False)
    return machine


def recorded_after(found: Found, step: Step) -> HostKeys:
    """What one of the two steps writes: what is shown stays accepted."""
    made = str(found.made)
    return HostKeys(made) if step is Step.RECORD else HostKeys(found.shown, made)


def look(machine: SshMachine, *, folder: str = FOLDER) -> Found:
    """See how far it is."""
    shown = machine.connection.shown(machine.way)
    left, _, made = machine.ask("look at its host keys", scripts.LOOK_AT_KEYS, folder).partition("\n")
    return Found(plain(made) if made.strip() else None, shown, left == "left")


def made_key(machine: SshMachine, *, folder: str = FOLDER) -> str:
    """Make the machine's own key unless it has one; return its public half.

    Raises:
        UnreachableError: it told nothing, as one whose power was cut just then.
    """
    made = machine.ask("make a host key", scripts.MAKE_KEY, folder)
    if not made.strip():
        raise UnreachableError(f"{machine.name} does not answer as it should: it told no host key.")
    return plain(made)


def activate(machine: SshMachine, key: str, *, folder: str = FOLDER) -> str:
    """Let sshd show *key*, which was made there, and no other; return it once a new connection has seen it.

    The connections that are open stay. sshd's settings are tried out first: a machine is not locked.

    Raises:
        NotReadyError: it goes on showing the one that it showed before.
    """
    machine.ask("bring its own host key into use", scripts.ACTIVATE, folder)

    def shown() -> str:
        try:
            return machine.connection.renew(machine.way, key)
        except UnreachableError as error:  # sshd opens its port anew
            return str(error).rstrip(".")

    return wait_until(
        f"{machine.name} to show its own host key",
        shown,
        lambda seen: seen == key,
        lambda seen: f"it shows {seen}" if seen.startswith("ssh-") else seen,
        timeout=PROVEN_WITHIN,
    )


def retire_birth(machine: SshMachine, *, folder: str = FOLDER) -> None:
    """Delete the host keys that the machine was born with; what its user_data holds stays there.

    Raises:
        MachineError: its own is not in use.
    """
    found = look(machine, folder=folder)
    if found.shown != found.made:
        raise MachineError(f"{machine.name} does not show a host key of its own, so the others stay.")
    machine.ask("delete the host keys it was born with", scripts.RETIRE, folder)
