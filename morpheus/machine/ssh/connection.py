"""One connection per node, shared by all threads: opened at first use, opened again once when it was lost."""

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

import asyncssh
from pydantic import SecretStr

from morpheus.errors import MorpheusError, UnreachableError
from morpheus.machine.ssh.background import Background
from morpheus.machine.ssh.opening import Bounds, Guard, ShutError, open_connection, read_key
from morpheus.machine.ssh.talk import FullError, LostError, Said, talk
from morpheus.machine.ssh.way import Way

Answer = TypeVar("Answer")

AT_ONCE = 8  # commands in one connection; sshd allows ten (MaxSessions)
MARGIN = 5.0  # seconds that a machine has to say that a bounded command reached its bound
WAIT_TURN = 60.0  # seconds for one of the eight places


class Connections:
    """The SSH connections of one forest's operation: enters machines with the forest's key alone.

    May be used from any number of threads. Nothing is opened before the first call.
    """

    def __init__(self, key: SecretStr) -> None:
        """Prepare for *key*, the private key as OpenSSH text.

        Raises:
            InvalidInputError: it cannot be read.
        """
        self._key = read_key(key.get_secret_value())
        self._background = Background()
        weakref.finalize(self, self._background.close)
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str, int, str], Connection] = {}

    def to(self, name: str, way: Way) -> "Connection":
        """The connection to node *name*, the same one for everybody who comes this way."""
        with self._lock:
            place = (name, way.address, way.port, way.user)
            if place not in self._known:
                self._known[place] = Connection(name, self._key, self._background)
            return self._known[place]

    def close(self) -> None:
        """End every connection, tunnel and command; also done when the program ends."""
        with self._lock:
            self._known.clear()
        self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Connection:
    """What is open to one machine. The caller says which way it comes: whom it accepts may change."""

    def __init__(self, name: str, key: asyncssh.SSHKey, background: Background) -> None:
        self.name = name
        self._key, self._background = key, background
        self._current: Opened | None = None
        self._opening: dict[Way, asyncio.Task[Opened]] = {}

    def execute(self, way: Way, command: str, given: bytes = b"", *, timeout: float, again: bool) -> Said:
        """Run a shell line.

        Args:
            way: how to enter.
            command: for the login shell.
            given: its input.
            timeout: in seconds, after which the machine counts as silent: the command ends itself sooner.
            again: it may be run a second time when the connection is lost while it runs.

        Raises:
            UnreachableError: the machine gives no answer; with *again* off it may have run.
            RefusedError: the machine shows a host key that is not accepted.
            MachineError: the forest's key is not accepted.
            TooMuchError: it printed more than is taken.
        """

        async def run(opened: Opened) -> Said:
            async with opened.turn():
                try:
                    async with asyncio.timeout(timeout):
                        return await talk(opened.connection, command, given)
                except TimeoutError:
                    opened.connection.abort()  # the next one who comes opens it anew
                    raise

        return self.use(way, run, timeout=timeout, again=again)

    def use(
        self,
        way: Way,
        work: Callable[["Opened"], Coroutine[Any, Any, Answer]],
        *,
        timeout: float,
        again: bool,
    ) -> Answer:
        """Let *work* use the open connection; raises as :meth:`execute`."""
        bound = 2 * (timeout + Bounds().total + WAIT_TURN)
        try:
            return self._background.call(self._used(way, work, again=again), timeout=bound)
        except ShutError as shut:
            raise _fresh(shut.error) from shut
        except TimeoutError as error:
            silent = f"{self.name} ({way.place}) fell silent; what was asked of it may have happened."
            raise UnreachableError(silent) from error
        except FullError as error:
            raise UnreachableError(
                f"{self.name} ({way.place}) opens no further SSH session just now."
            ) from error
        except LostError as error:
            raise UnreachableError(
                f"The connection to {self.name} ({way.place}) was lost while it worked; what was asked of it "
                "may have happened."
            ) from error

    def attempt(self, way: Way, bounds: Bounds) -> None:
        """Enter unless we are in.

        Raises:
            ShutError: the machine does not let us in.
        """
        self._background.call(self._ready(way, bounds), timeout=2 * bounds.total)

    def renew(self, way: Way, wanted: str) -> str:
        """Enter once more, and return the host key that was shown; if it is the *wanted* one, stay so.

        Raises:
            UnreachableError: the machine gives no answer.
            RefusedError: the machine shows a host key that is not accepted.
            MachineError: the forest's key is not accepted.
        """
        try:
            return self._background.call(self._renewed(way, wanted), timeout=2 * Bounds().total)
        except ShutError as shut:
            raise _fresh(shut.error) from shut

    def shown(self, way: Way) -> str:
        """The host key that the machine showed when it was entered; raises as :meth:`execute`."""

        async def look(opened: Opened) -> str:
            return opened.shown

        return self.use(way, look, timeout=MARGIN, again=True)

    @property
    def background(self) -> Background:
        return self._background

    async def ready(self, way: Way) -> "Opened":
        """The open connection, for what runs in the background already."""
        return await self._ready(way, Bounds())

    async def _used(
        self, way: Way, work: Callable[["Opened"], Coroutine[Any, Any, Answer]], *, again: bool
    ) -> Answer:
        opened = await self._ready(way, Bounds())
        try:
            return await work(opened)
        except LostError as error:
            if error.begun and not again:
                raise
        return await work(await self._ready(way, Bounds()))

    async def _ready(self, way: Way, bounds: Bounds) -> "Opened":
        if (now := self._current) and now.lasts and now.shown in way.host_keys:
            return now
        task = self._opening.get(way)
        if task is None:  # those who come meanwhile share it, its failure too
            task = self._opening[way] = asyncio.ensure_future(self._entered(way, bounds))
            task.add_done_callback(lambda done: self._opened(way, done))
        return await asyncio.shield(task)

    def _opened(self, way: Way, task: asyncio.Task["Opened"]) -> None:
        self._opening.pop(way, None)
        if not task.cancelled():
            task.exception()  # somebody heard of it, or nobody wants to any more

    async def _renewed(self, way: Way, wanted: str) -> str:
        opened = await self._open(way, Bounds())
        if opened.shown == wanted:
            self._current = opened
        else:
            opened.connection.abort()
        return opened.shown

    async def _entered(self, way: Way, bounds: Bounds) -> "Opened":
        self._current = opened = await self._open(way, bounds)
        return opened

    async def _open(self, way: Way, bounds: Bounds) -> "Opened":
        connection, guard = await open_connection(self.name, way, self._key, bounds)
        return Opened(connection, guard, self._background)


class Opened:
    """An open connection, and the places in it."""

    def __init__(
        self, connection: asyncssh.SSHClientConnection, guard: Guard, background: Background
    ) -> None:
        self.connection = connection
        self.shown = guard.shown or ""
        self._turns = asyncio.Semaphore(AT_ONCE)
        background.at_end.add(connection.abort)
        guard.at_loss = lambda: background.at_end.discard(connection.abort)

    @property
    def lasts(self) -> bool:
        return not self.connection.is_closed()

    def turn(self) -> asyncio.Semaphore:
        """One of the places for commands, to be held while one runs."""
        return self._turns


def _fresh(error: MorpheusError) -> MorpheusError:
    """The same error once more: several threads may raise it at a time."""
    return type(error)(*error.args)
