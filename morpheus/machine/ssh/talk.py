"""One command on a machine: what it is given, what it says, how it ends; all of it bounded."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import asyncssh

MOST = 32 * 2**20  # bytes that a command may print
_TAIL = 4000  # bytes kept of what it complains
_FULL = 3.0  # seconds to ask for a place again
_CHUNK = 128 * 1024
_STDERR = asyncssh.EXTENDED_DATA_STDERR


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended; ``code`` is None when it was killed or the connection was lost."""

    code: int | None
    out: bytes
    complaint: str


class TooMuchError(Exception):
    """It printed more than is taken."""


class FullError(Exception):
    """The machine opens no further session in this connection."""


class LostError(Exception):
    """The connection was lost; ``begun`` tells whether the command may have run."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__()
        self.begun = begun


class _Talk(asyncssh.SSHClientSession[bytes]):
    def __init__(self, most: int) -> None:
        self._most = most
        self._out, self._complaint = bytearray(), b""
        self.code: int | None = None
        self.overflowed = False
        self.writable = asyncio.Event()
        self.writable.set()
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype == _STDERR:
            self._complaint = (self._complaint + data)[-_TAIL:]
        elif len(self._out) + len(data) <= self._most:
            self._out += data
        else:
            self.overflowed = True
            end(self._channel)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def exit_status_received(self, status: int) -> None:
        self.code = status

    def connection_lost(self, exc: Exception | None) -> None:
        self.writable.set()
        if not self.ended.done():
            self.ended.set_result(exc)

    def said(self) -> Said:
        return Said(self.code, bytes(self._out), self._complaint.decode(errors="replace").strip())


async def begin(
    connection: asyncssh.SSHClientConnection, session: asyncssh.SSHClientSession[bytes], command: str
) -> asyncssh.SSHClientChannel[bytes]:
    """Run the shell line *command* as *session*.

    The place of one that has ended is free a moment after its end, so a refusal is not the last word.

    Raises:
        LostError: the connection was lost; the command did not run.
        FullError: no further command may run in it.
    """
    deadline = time.monotonic() + _FULL
    while True:
        try:
            channel, _ = await connection.create_session(lambda: session, command, encoding=None)
        except (asyncssh.Error, OSError) as error:
            if connection.is_closed():
                raise LostError(begun=False) from error
            if time.monotonic() > deadline:
                raise FullError from error
            await asyncio.sleep(0.01)
        else:
            return channel


async def talk(
    connection: asyncssh.SSHClientConnection, command: str, given: bytes, *, most: int = MOST
) -> Said:
    """Run the shell line *command* with *given* as its input.

    Raises:
        LostError: the connection was lost before its end.
        FullError: no further command may run in it.
        TooMuchError: it printed more than *most* bytes; it was ended.
    """
    session = _Talk(most)
    channel = await begin(connection, session, command)
    try:
        await _give(channel, session, given)
        lost = await session.ended
    except BaseException:
        end(channel)
        raise
    if session.overflowed:
        raise TooMuchError
    if session.code is None and (lost or connection.is_closed()):
        raise LostError(begun=True) from lost
    return session.said()


class Stream(asyncssh.SSHClientSession[bytes]):
    """What a command prints, piece by piece as it comes; the machine waits for who does not read."""

    def __init__(self, at_end: Callable[[], object]) -> None:
        self._at_end = at_end
        self._pieces: list[bytes] = []
        self._more = asyncio.Event()
        self._ended = self._lost = False
        self.complaint = b""
        self.code: int | None = None

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype == _STDERR:
            self.complaint = (self.complaint + data)[-_TAIL:]
            return
        self._pieces.append(data)
        self._more.set()
        self._channel.pause_reading()

    def exit_status_received(self, status: int) -> None:
        self.code = status

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._lost = True, exc is not None
        self._more.set()
        self._at_end()

    async def piece(self) -> bytes:
        """What came since the last call, at least a byte; nothing at the end.

        Raises:
            LostError: the connection was lost.
        """
        if not self._pieces and not self._ended:
            self._more.clear()
            await self._more.wait()
        came, self._pieces = b"".join(self._pieces), []
        if not came and self._lost:
            raise LostError(begun=True)
        if not self._ended:
            self._channel.resume_reading()
        return came

    def close(self) -> None:
        end(self._channel)


async def _give(channel: asyncssh.SSHClientChannel[bytes], session: _Talk, given: bytes) -> None:
    view = memoryview(given)
    with contextlib.suppress(OSError):  # it ended without reading all; how, it says itself
        for start in range(0, len(view), _CHUNK):
            await asyncio.sleep(0)  # hear of a connection that was lost meanwhile
            await session.writable.wait()
            channel.write(bytes(view[start : start + _CHUNK]))
        channel.write_eof()


def end(channel: asyncssh.SSHClientChannel[bytes]) -> None:
    """Tell what runs in *channel* to end, and let go of it."""
    with contextlib.suppress(OSError, asyncssh.Error):
        channel.terminate()
    channel.close()
