"""Waiting for a machine that is being born: from an address without an answer to cloud-init's good end."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from morpheus.errors import MachineError, NotReadyError, UnreachableError
from morpheus.machine.ssh import scripts
from morpheus.machine.ssh.machine import SshMachine
from morpheus.machine.ssh.opening import Bounds, Shut, ShutError
from morpheus.wait import wait_until

log = logging.getLogger("morpheus.ssh")

STATE = "/run/cloud-init"
LOG = "/var/log/cloud-init-output.log"
INTERVAL = 0.05  # seconds between two tries to enter
ROUND = 2.0  # seconds that the machine waits for its cloud-init before it says how far that is
NO_IPV6_FOR = 10.0  # seconds without IPv6 here, after which none is expected any more
# From version 9.8 on, sshd shuts out an address that shows refused keys more often than this.
KEY_PAUSES = (0.25, 1.0, 5.0)
_LONGEST_LOG = 1500  # characters


@dataclass(frozen=True, slots=True)
class Birth:
    """How cloud-init ended: ``warnings`` are what it says went wrong, but not so that it counts."""

    warnings: tuple[str, ...] = ()


def wait_entered(machine: SshMachine, *, timeout: float, state: str = STATE, output: str = LOG) -> Birth:
    """Wait until *machine* lets us in and its cloud-init has ended well.

    Args:
        machine: the machine; when it boots does not matter.
        timeout: in seconds, for all of it.
        state: the folder in which cloud-init tells how it stands.
        output: the file in which the programs that it runs say what they do.

    Raises:
        NotReadyError: it does not let us in, or cloud-init does not end, in time; says what was seen last.
        RefusedError: another machine answers, by its host key.
        MachineError: cloud-init failed; with the end of its log.
    """
    deadline = time.monotonic() + timeout
    door = _Door(machine, deadline)
    wait_until(
        f"{machine.name} to let us in",
        door.knock,
        lambda shut: shut is None,
        lambda shut: str(shut).rstrip("."),
        timeout=timeout,
        interval=INTERVAL,
    )
    seen = wait_until(
        f"cloud-init of {machine.name}",
        lambda: _ask(machine, state, deadline),
        lambda seen: seen.result is not None,
        lambda seen: seen.words,
        timeout=max(0.0, deadline - time.monotonic()),
        interval=INTERVAL,
    )
    return _judge(machine, seen, output)


class _Door:
    """Tries to enter, in a pace that the machine bears."""

    def __init__(self, machine: SshMachine, deadline: float) -> None:
        self._machine, self._deadline = machine, deadline
        self._began = time.monotonic()
        self._no_ipv6_since: float | None = None
        self._refusals = 0
        self._next, self._last = 0.0, "nothing yet"

    def knock(self) -> str | None:
        """Why we are not in; None when we are."""
        now = time.monotonic()
        if now < self._next:
            return self._last
        try:
            self._machine.connection.attempt(self._machine.way, self._bounds(now))
        except ShutError as shut:
            self._heed(shut)
            self._last = str(shut)
            return self._last
        return None

    def _bounds(self, now: float) -> Bounds:
        """Short at first: to what was sent before the machine listened, no answer comes for a second."""
        patience = min(0.5 + (now - self._began) / 10, 10.0)
        left = max(0.05, self._deadline - now)
        return Bounds(min(patience, left), min(2 * patience, left), 10.0)

    def _heed(self, shut: ShutError) -> None:
        now = time.monotonic()
        if shut.why is Shut.WRONG_HOST:
            raise shut.error
        if shut.why is Shut.KEY_REFUSED:
            self._next = now + KEY_PAUSES[min(self._refusals, len(KEY_PAUSES) - 1)]
            self._refusals += 1
        if shut.why is not Shut.NO_IPV6:
            self._no_ipv6_since = None
            return
        self._no_ipv6_since = self._no_ipv6_since or now
        self._next = now + 0.5
        if now - self._no_ipv6_since > NO_IPV6_FOR:
            raise NotReadyError(str(shut.error)) from shut


@dataclass(frozen=True, slots=True)
class _Seen:
    """What cloud-init tells: ``result`` once it has ended, how it stands in ``words``."""

    words: str
    result: Mapping[str, Any] | None = None
    status: Mapping[str, Any] | None = None


def _ask(machine: SshMachine, state: str, deadline: float) -> _Seen:
    looks = f"{min(ROUND, max(0.0, deadline - time.monotonic())) / INTERVAL:.0f}"
    try:
        said = json.loads(machine.ask("wait for cloud-init", scripts.BORN, state, looks, timeout=30))
    except UnreachableError as error:
        return _Seen(str(error).rstrip("."))
    except ValueError:  # it was just being written
        return _Seen("cloud-init still runs")
    status = _version_1(said["status"]) or {}
    if said["unit"] == "failed" and said["result"] is None:
        return _Seen("", {"errors": ["its last stage failed (cloud-final.service)"]}, status)
    if said["off"]:
        return _Seen("", {"errors": ["it is switched off on this machine, or found no data to work with"]})
    stage = status.get("stage") or "between two stages"
    return _Seen(f"cloud-init still runs ({stage})", _version_1(said["result"]), status)


def _version_1(document: object) -> Mapping[str, Any] | None:
    found = document.get("v1") if isinstance(document, dict) else None
    return found if isinstance(found, dict) else None


def _judge(machine: SshMachine, seen: _Seen, output: str) -> Birth:
    errors = (seen.result or {}).get("errors") or ()
    if errors:
        text = machine.ask("read cloud-init's log", scripts.TAIL, output)[-_LONGEST_LOG:].strip()
        told = "; ".join(str(each) for each in errors)
        raise MachineError(
            f"cloud-init of {machine.name} failed: {told}. The end of its log ({output}):\n{text}"
        )
    warnings = tuple(_warnings(seen.status or {}))
    for each in warnings:
        log.warning("cloud-init of %s: %s", machine.name, each)
    return Birth(warnings)


def _warnings(status: Mapping[str, Any]) -> list[str]:
    """What newer versions call recoverable, and "degraded" as a whole; words that grew old are no fault."""
    stages = (each for each in status.values() if isinstance(each, dict))
    levels = (stage.get("recoverable_errors") or {} for stage in stages)
    return [
        str(text)
        for found in levels
        for level, texts in found.items()
        if level != "DEPRECATED"
        for text in texts
    ]
