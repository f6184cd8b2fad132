"""A port of this machine that leads to one of a machine's loopback, through its SSH connection."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator

import asyncssh

from morpheus.machine.ssh.connection import MARGIN, Connection
from morpheus.machine.ssh.opening import ShutError
from morpheus.machine.ssh.way import Way

log = logging.getLogger("morpheus.ssh")

_PIECE = 64 * 1024


@contextlib.contextmanager
def tunnel(connection: Connection, way: Way, port: int) -> Iterator[tuple[str, int]]:
    """Listen on a port of 127.0.0.1 while the block runs.

    The machine is entered when somebody connects, and again after a reboot: until then nobody learns
    whether it answers. Who connects while it does not sees its connection end.
    """
    work = _Tunnel(connection, way, port)
    address = connection.background.call(work.open(), timeout=MARGIN)
    try:
        yield address
    finally:
        connection.background.tell(work.close)


class _Tunnel:
    def __init__(self, connection: Connection, way: Way, port: int) -> None:
        self._connection, self._way, self._port = connection, way, port
        self._visits: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> tuple[str, int]:
        self._server = await asyncio.start_server(self._visit, "127.0.0.1", 0, backlog=100)
        self._connection.background.at_end.add(self.close)
        host, port = self._server.sockets[0].getsockname()
        return str(host), int(port)

    def close(self) -> None:
        self._connection.background.at_end.discard(self.close)
        if self._server:
            self._server.close()
        for visit in tuple(self._visits):
            visit.cancel()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._visits.add(task)
        try:
            await self._lead(reader, writer)
        except asyncio.CancelledError:  # the tunnel is closed; a server's task must not end so
            pass
        except ShutError as shut:
            log.warning("%s", shut.error)
        except (asyncssh.Error, OSError) as error:
            log.debug("port %d of %s: %s", self._port, self._connection.name, error)
        finally:
            self._visits.discard(task)
            writer.transport.abort() if task.cancelling() else writer.close()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened = await self._connection.ready(self._way)
        there = await opened.connection.open_connection("127.0.0.1", self._port, encoding=None)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, there[1]))
                both.create_task(_copy(there[0], writer))
        except ExceptionGroup as group:
            raise ConnectionResetError(str(group.exceptions[0])) from group
        finally:
            there[1].channel.abort()


async def _copy(
    source: "asyncio.StreamReader | asyncssh.SSHReader[bytes]",
    sink: "asyncio.StreamWriter | asyncssh.SSHWriter[bytes]",
) -> None:
    while piece := await source.read(_PIECE):
        sink.write(piece)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()
