"""Leases: one mutating operation per forest at a time, across devices.

A lease stands in the forest's record. Each taking of it raises the forest's epoch, and every write of the
operation is refused when the epoch is not its own any more. So an operation that slept, stalled or was
taken over changes nothing, in the registry or, because it asks before every outside effect, elsewhere.

Outside effects rest on no store's clock: one begins only within FRESH seconds of the last proof that the
forest is held, and who takes over waits until every proof of the other is older than that. So a clock that
jumps may hand a forest over too early, but never lets two act on it at once.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from morpheus import host
from morpheus.errors import (
    ForestBusyError,
    LeaseLostError,
    MorpheusError,
    RegistryMovedError,
    ReloadError,
    StoreBusyError,
    TransientError,
)
from morpheus.forest import Forest, Lease
from morpheus.registry import Change, Registry
from morpheus.registry.document import Document
from morpheus.wait import check_wanted

log = logging.getLogger("morpheus.lease")

DURATION = timedelta(seconds=60)
RENEW_EVERY = 15.0  # seconds
FRESH = 20.0  # seconds after a write under the lease in which an outside effect may begin


def check_free(forest: Forest, now: datetime) -> None:
    """Raise ForestBusyError while another operation holds *forest*.

    A holder that ran on this machine and has ended holds nothing any more.
    """
    lease = forest.lease
    if lease is None or lease.expires <= now or host.has_ended(lease.process):
        return
    raise ForestBusyError(
        f"{forest.name} is held by {lease.holder} ({lease.operation}, since {lease.started:%H:%M:%S} UTC) "
        f"until {lease.expires:%H:%M:%S} UTC at least: wait for it to end, then run this again."
    )


def ended(lease: Lease | None, now: datetime) -> Lease | None:
    """*lease* as it has to stand once a person has ended it: anybody may take over, after the usual wait.

    None where nothing of its holder can be under way any more.
    """
    if lease is None or host.has_ended(lease.process):
        return None
    return replace(lease, expires=min(lease.expires, now))


def taken(document: Document, name: str, lease: Lease) -> Document:
    """*document* with *lease* on the forest *name* and its epoch raised."""
    forest = replace(document.forests[name], lease=lease)
    epochs = {**document.epochs, name: document.epochs.get(name, 0) + 1}
    return replace(document.with_forest(forest), epochs=epochs)


@dataclass(frozen=True, slots=True)
class Claim:
    """Who wants the forest, and for what."""

    name: str
    operation: str
    run: str


class Hold:
    """The right to change one forest, renewed in the background until released.

    Args:
        registry: where the lease stands.
        claim: who wants it.
        prepare: what is to be written together with the lease (it may refuse by raising, and must leave a
            forest of that name behind); asked again after a lost race.
        margin: seconds after which a call that was given up can no longer take effect.
    """

    def __init__(self, registry: Registry, claim: Claim, prepare: Change, *, margin: float) -> None:
        self._registry, self._claim, self._margin = registry, claim, margin
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._lost: MorpheusError | None = None
        self._thread = threading.Thread(target=self._keep_renewing, name=f"lease-{claim.name}", daemon=True)
        self._taken_over = False
        self._process = host.this_process()
        asked = host.awake_seconds()
        document = registry.update(lambda document, now: self._take(document, now, prepare))
        self._proven = asked
        self._epoch = document.epochs.get(claim.name, 0)
        self._confirm(document, there=True)  # somebody may have come while the answer was lost
        self.forest = document.forests[claim.name]
        self.registry_id = document.registry_id or ""

    @property
    def run(self) -> str:
        """The run that holds the forest."""
        return self._claim.run

    @property
    def turn(self) -> int:
        """The forest's epoch: of two that held it, the later one has the higher."""
        return self._epoch

    def _take(self, document: Document, now: datetime, prepare: Change) -> Document:
        known = document.forests.get(self._claim.name)
        if known and not self._is_our_own(known.lease):
            check_free(known, now)
            # A dead process of this machine can have no call under way; anybody else's may still land.
            self._taken_over = known.lease is not None and not host.has_ended(known.lease.process)
        lease = Lease(
            self._claim.operation, self._claim.run, host.operator(), now, now + DURATION, self._process
        )
        return taken(prepare(document, now), self._claim.name, lease)

    def _is_our_own(self, lease: Lease | None) -> bool:
        """Whether an earlier Hold of this very run and process left *lease*, interrupted before it began."""
        return lease is not None and lease.run == self._claim.run and lease.process == self._process

    def __enter__(self) -> Self:
        self._thread.start()
        if self._taken_over:
            pause = FRESH + self._margin
            log.info("took over from an operation that stopped renewing; waiting %.0f s for its end", pause)
            self._stop.wait(pause)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=self._margin)
        try:
            self.update(lambda forest, _: replace(forest, lease=None) if forest else None)
        except RegistryMovedError:
            return  # its successor has no leases
        except MorpheusError as reason:
            log.warning("the lease of %s could not be given back: %s", self._claim.name, reason)

    def confirm(self, document: Document) -> None:
        """Raise LeaseLostError unless *document* says that we hold the forest."""
        self._confirm(document, there=True)

    def recorded(self) -> Forest | None:
        """The forest as the registry has it now, whoever holds it."""
        return self._registry.find(self._claim.name)

    def check(self) -> None:
        """Raise LeaseLostError unless the forest was held a moment ago, so that one outside effect may begin.

        After a sleep of the machine the lease is renewed first, if nobody took it meanwhile.

        Raises:
            AbandonedError: the run is being taken back.
        """
        check_wanted()
        if self._lost:
            raise LeaseLostError(str(self._lost)) from self._lost
        if not self._is_fresh():
            self._renew()
        if not self._is_fresh():
            raise StoreBusyError(
                f"The registry answers too slowly to keep {self._claim.name} held, so nothing more is done; "
                "run this again."
            )

    def _is_fresh(self) -> bool:
        return host.awake_seconds() - self._proven < FRESH

    def update(self, change: Callable[[Forest | None, datetime], Forest | None]) -> Forest | None:
        """Replace the forest's record (None: there is none, or it is to go), if we still hold it."""
        after = self._write(change)
        if after:
            self.forest = after
        return after

    def _write(self, change: Callable[[Forest | None, datetime], Forest | None]) -> Forest | None:
        def fenced(document: Document, now: datetime) -> Document:
            self._confirm(document)
            forest = change(document.forests.get(self._claim.name), now)
            return document.with_forest(forest) if forest else document.without_forest(self._claim.name)

        return self._registry.update(fenced).forests.get(self._claim.name)

    def _confirm(self, document: Document, *, there: bool = False) -> None:
        """Raise LeaseLostError unless *document* says that we hold the forest (or, unless *there*, none is).

        The epoch alone would not do: a registry put back from a backup counts some epochs twice.
        """
        forest = document.forests.get(self._claim.name)
        lease = forest.lease if forest else None
        ours = lease is not None and (lease.run, lease.process) == (self._claim.run, self._process)
        gone = forest is None and not there
        if document.epochs.get(self._claim.name) != self._epoch or not (ours or gone):
            raise LeaseLostError(
                f"Another operation took {self._claim.name} over; this one stops here, "
                "and what it started is recorded. See morpheus status."
            )

    def _renew(self) -> None:
        def later(forest: Forest | None, now: datetime) -> Forest | None:
            if forest is None or forest.lease is None:
                raise LeaseLostError(f"The lease of {self._claim.name} was taken away; this run stops here.")
            return replace(forest, lease=replace(forest.lease, expires=now + DURATION))

        with self._lock:
            asked = host.awake_seconds()
            self._write(later)  # not update: what it returns may be older than what our caller wrote since
            self._proven = asked

    def _keep_renewing(self) -> None:
        while not self._stop.wait(RENEW_EVERY):
            try:
                self._renew()
            except (TransientError, ReloadError) as error:
                log.info("the lease of %s could not be renewed yet: %s", self._claim.name, error)
            except MorpheusError as error:
                self._lost = error
                return
