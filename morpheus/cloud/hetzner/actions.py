"""Waiting for what the API has begun: many actions, one request per tick."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hcloud.actions import BoundAction

from morpheus.cloud.hetzner.api import Api
from morpheus.errors import CloudBusyError, TransientError
from morpheus.wait import wait_until

log = logging.getLogger("morpheus.cloud")

FIRST_LOOK, TICK, SLOWEST_TICK = 0.25, 0.35, 5.0  # seconds
SHARE = 0.08  # of the time already waited: a look later than the end by no more than that
PAGE = 25  # actions in one request: the API has no other number for them


class ActionFailedError(CloudBusyError):
    """What the API had begun came to a bad end; asked again it may come to a good one.

    ``failed`` maps each command that failed to its code.
    """

    def __init__(self, text: str, failed: Mapping[str, str]) -> None:
        super().__init__(text)
        self.failed = failed


class Actions:
    """The actions that threads wait for; whoever is due first asks for all of them."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._turn = threading.Condition()
        self._open: dict[int, float] = {}  # the ids that are asked for, and when that began
        self._states: dict[int, dict[str, Any]] = {}
        self._round, self._due, self._asking = 0, 0.0, False
        self._trouble = ""  # why the last look saw nothing

    def wait(self, actions: Sequence[BoundAction], what: str, *, timeout: float) -> None:
        """Return when all *actions* succeeded.

        Raises:
            ActionFailedError: one of them failed; every other one has ended, too.
            NotReadyError: one still runs after *timeout* seconds; says what was seen last.
        """
        ids = [action.id for action in actions]
        started = time.monotonic()
        with self._turn:
            if not self._open:
                self._due = started + FIRST_LOOK
            for action in actions:
                self._states[action.id] = _state(action)
                if action.status == action.STATUS_RUNNING:
                    self._open[action.id] = started
        try:
            self._until_ended(ids, what, timeout)
            failed = [self._states[each] for each in ids if self._states[each]["status"] == "error"]
        finally:
            with self._turn:
                for each in ids:
                    self._open.pop(each, None)
        if failed:
            raise self._failure(failed, what)

    def _until_ended(self, ids: Sequence[int], what: str, timeout: float) -> None:
        seen = -1

        def look() -> list[dict[str, Any]]:
            nonlocal seen
            seen = self._news(seen) if seen >= 0 else self._round
            return [self._states[each] for each in ids if self._states[each]["status"] == "running"]

        def said(running: list[dict[str, Any]]) -> str:
            return self._trouble or ", ".join(f"{each['command']} under way" for each in running)

        wait_until(what, look, lambda running: not running, said, timeout=timeout, interval=0)

    def _news(self, seen: int) -> int:
        """Return the number of a look later than the one numbered *seen*, when it has been taken."""
        with self._turn:
            while self._round <= seen:
                pause = self._due - time.monotonic()
                if pause <= 0 and not self._asking:
                    self._asking = True
                    ids = list(self._open)
                    break
                self._turn.wait(pause if pause > 0 else None)
            else:
                return self._round
        states: dict[int, dict[str, Any]] = {}
        trouble = ""
        try:
            for k in range(0, len(ids), PAGE):
                states |= self._ask(ids[k : k + PAGE])
        except TransientError as error:
            trouble = str(error)
        finally:
            self._note(states, trouble)
        return self._round

    def _note(self, states: dict[int, dict[str, Any]], trouble: str) -> None:
        """Let everybody know what a look saw, and when the next one is due."""
        with self._turn:
            self._asking, self._trouble = False, trouble
            self._states |= states
            for each, state in states.items():
                if state["status"] != "running":
                    self._open.pop(each, None)
            self._round += 1
            now = time.monotonic()
            waited = now - min(self._open.values(), default=now)
            self._due = now + min(max(TICK, SHARE * waited), SLOWEST_TICK)
            self._turn.notify_all()

    def _ask(self, ids: list[int]) -> dict[int, dict[str, Any]]:
        with self._api.call("look at what was begun"):
            answer = self._api.request("GET", "/actions", params={"id": ids})
        return {each["id"]: each for each in answer["actions"]}

    def _failure(self, actions: Sequence[dict[str, Any]], what: str) -> ActionFailedError:
        errors = {each["command"]: each.get("error") or {} for each in actions}
        told = "; ".join(
            f"{command} failed, {self._api.hidden(str(error.get('message', 'no reason given')))} "
            f"({error.get('code', 'unknown')})"
            for command, error in errors.items()
        )
        failed = {command: str(error.get("code", "")) for command, error in errors.items()}
        return ActionFailedError(f"Waiting for {what}: {told}.", failed)


def _state(action: BoundAction) -> dict[str, Any]:
    return {
        "id": action.id,
        "command": action.command,
        "status": action.status,
        "progress": action.progress,
        "error": action.error,
    }
