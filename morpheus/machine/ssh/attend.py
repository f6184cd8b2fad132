"""A command of the operator's on a machine: what it prints and complains, as it comes, and how it ends."""

import shlex
from collections.abc import Callable

import asyncssh

from morpheus.errors import UnreachableError
from morpheus.machine.ssh.connection import Connection
from morpheus.machine.ssh.follow import open_stream
from morpheus.machine.ssh.talk import LostError, Stream
from morpheus.machine.ssh.way import Way

KILLED = 255  # what ssh itself ends with when a command there was killed

Tell = Callable[[bytes, bool], object]
"""Is given each piece, and whether it is a complaint."""

# $1 a shell line: runs it without input in a process group of its own, and tells that to end when our own
# input ends, as it does when the connection is closed, or at TERM: Debian 12's sshd passes no signals on to
# what root runs, Debian 13's does.
ATTENDED = """
end() { kill -TERM "-$child" || kill -TERM "$child"; } 2> /dev/null
exec 3<&0
setsid "${SHELL:-/bin/sh}" -c "$1" < /dev/null 3<&- &
child=$!
trap end TERM
{ cat <&3; end; } > /dev/null 2>&1 &
guard=$!
wait "$child"
code=$?
kill "$guard" 2> /dev/null
exit "$code"
"""

_STDERR = asyncssh.EXTENDED_DATA_STDERR


class Both(Stream):
    """What a command prints and complains, in the order in which it came."""

    def __init__(self, at_end: Callable[[], object]) -> None:
        super().__init__(at_end)
        self._came: list[tuple[bytes, bool]] = []

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._came.append((data, datatype == _STDERR))
        super().data_received(data, None)

    async def both(self) -> list[tuple[bytes, bool]]:
        """What came since the last call, and whether it is a complaint; nothing at the end."""
        while not self._came:  # what comes while a piece is handed out belongs to the next one as well
            if not await self.piece():
                return []
        came, self._came = self._came, []
        return came


def attend(connection: Connection, way: Way, command: str, tell: Tell) -> int:
    """Run a shell line; see :meth:`morpheus.machine.ssh.SshMachine.attend`."""
    line = f"exec /bin/sh -c {shlex.quote(ATTENDED)} sh {shlex.quote(command)}"
    stream = open_stream(connection, way, line, Both)
    try:
        while came := connection.background.call(stream.both(), timeout=None):
            for data, complains in came:
                tell(data, complains)
    except LostError as error:
        raise UnreachableError(f"The connection to {connection.name} ({way.place}) was lost.") from error
    finally:
        connection.background.tell(stream.close)
    return KILLED if stream.code is None else stream.code
