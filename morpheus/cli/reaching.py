"""The way onto the machines of a forest, for commands: its secrets, its nodes, and all of them at once."""

import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import SecretStr

from morpheus import keyring, site
from morpheus import settings as config
from morpheus.cli.looking import nodes_meant
from morpheus.cloud.over_ssh import SshWays
from morpheus.errors import (
    AbandonedError,
    InvalidInputError,
    MorpheusError,
    RefusedError,
    TransientError,
    UnreachableError,
)
from morpheus.forest import Forest, Node
from morpheus.machine.ssh import SshNode, Tell
from morpheus.secrets import ForestSecrets
from morpheus.settings import Settings
from morpheus.site import Found
from morpheus.wait import end_waits, let_wait
from morpheus.watch import server_of

Work = Callable[[SshNode, Tell], int]
"""Is done on one machine, tells what it prints, and returns the exit code."""

MOST = 1000  # pieces that wait to be printed; the machines wait for who does not read
GOODBYE = 2.0  # seconds to tell a machine that nobody listens any more
LOOK = 0.1  # seconds until somebody who waits to be read asks whether anybody still does


@dataclass(frozen=True)
class Reach:
    """A forest on machines elsewhere, and what enters them. Nothing is opened before the first call."""

    settings: Settings
    found: Found
    secrets: ForestSecrets = field(repr=False)
    ways: SshWays

    @property
    def forest(self) -> Forest:
        return self.found.forest

    def machine(self, node: Node) -> SshNode:
        """The machine of *node*.

        Raises:
            RefusedError: no host key of it is recorded.
        """
        return self.ways.machine(server_of(node))

    def machines(self, node: str | None = None) -> "tuple[list[SshNode], list[End]]":
        """The machine of *node*, or all of them; and why others are left out: no host key is known."""
        known, shut = [], []
        for each in nodes_meant(self.forest, node):
            try:
                known.append(self.machine(each))
            except (RefusedError, InvalidInputError) as error:
                shut.append(End(each.name, fault=UnreachableError(str(error))))
        return known, shut


@contextlib.contextmanager
def reached(found: Found) -> Iterator[Reach]:
    """The way onto the machines of the forest while the block runs; the cloud is not asked.

    Raises:
        RefusedError: the registry's key is not here, or the forest's secrets are not; says what to do.
    """
    settings = config.load()
    secrets = keyring.secrets_of(settings, found.forest)
    ways = site.ways(settings, SecretStr(secrets.ssh_key))
    try:
        yield Reach(settings, found, secrets, ways)
    finally:
        ways.close()


@dataclass(frozen=True, slots=True)
class Piece:
    """What a machine printed, or complained."""

    node: str
    data: bytes
    complains: bool


@dataclass(frozen=True, slots=True)
class End:
    """How what was done on a machine ended: its exit code, or why nobody knows."""

    node: str
    code: int | None = None
    fault: MorpheusError | None = None


def on_all(machines: Sequence[SshNode], work: Work, shut: Sequence[End] = ()) -> Iterator[Piece | End]:
    """Do *work* on all *machines* at once; what comes of it, as it comes, one End for each of them.

    The ends of those that are *shut* come first. When nobody reads on, what is under way is told to end.
    """
    yield from shut
    pipe, context = _Pipe(work), contextvars.copy_context()
    context.run(let_wait)
    threads = [
        threading.Thread(target=context.copy().run, args=[pipe.feed, machine], daemon=True)
        for machine in machines
    ]
    for thread in threads:
        thread.start()
    left = len(machines)
    try:
        while left:
            piece = pipe.came.get()
            if isinstance(piece, Exception):
                raise piece
            left -= isinstance(piece, End)
            yield piece
    finally:
        pipe.closed.set()
        context.run(end_waits)
        for thread in threads:
            thread.join(GOODBYE)


class _Pipe:
    """From the threads that work on machines to the one that reads."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.came: queue.Queue[Piece | End | Exception] = queue.Queue(MOST)
        self.closed = threading.Event()

    def feed(self, machine: SshNode) -> None:
        """Do the work on *machine*."""

        def tell(data: bytes, complains: bool) -> None:
            self._put(Piece(machine.name, data, complains))

        with contextlib.suppress(AbandonedError):
            self._put(self._end(machine, tell))

    def _end(self, machine: SshNode, tell: Tell) -> End | Exception:
        try:
            return End(machine.name, self._work(machine, tell))
        except AbandonedError:
            raise
        except MorpheusError as error:
            return End(machine.name, fault=error)
        except Exception as error:  # noqa: BLE001  # a fault of ours is raised by who reads
            return error

    def _put(self, piece: Piece | End | Exception) -> None:
        while not self.closed.is_set():
            with contextlib.suppress(queue.Full):
                self.came.put(piece, timeout=LOOK)
                return
        raise AbandonedError("Nobody reads what the machines print any more.")


def raise_worst(ends: Mapping[str, End], say: Callable[[str], None]) -> None:
    """Raise the fault of a machine, if there is any, after telling those of all the others.

    One that a person has to act on comes before one that may pass.
    """
    faults = [end.fault for end in ends.values() if end.fault]
    faults.sort(key=lambda fault: not isinstance(fault, TransientError))
    for fault in faults[:-1]:
        say(str(fault))
    for fault in faults[-1:]:
        raise fault
