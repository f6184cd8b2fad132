"""What a command on a machine prints, line by line as it comes."""

import codecs
import shlex
from collections.abc import Iterator
from typing import TypeVar

from morpheus.errors import MachineError, UnreachableError
from morpheus.machine.ssh.connection import MARGIN, Connection, Opened
from morpheus.machine.ssh.talk import LostError, Stream, begin
from morpheus.machine.ssh.way import Way

Kind = TypeVar("Kind", bound=Stream)

LONGEST = 2**20  # characters after which a line is cut


def follow(connection: Connection, way: Way, argv: tuple[str, ...]) -> Iterator[str]:
    """Run *argv* and yield its lines; see :meth:`morpheus.machine.ssh.SshMachine.lines`."""
    stream = open_stream(connection, way, f"exec {shlex.join(argv)}", Stream)
    try:
        yield from _lines(connection, stream)
    except LostError as error:
        raise UnreachableError(f"The connection to {connection.name} ({way.place}) was lost.") from error
    finally:
        connection.background.tell(stream.close)
    if stream.code != 0:
        said = stream.complaint.decode(errors="replace").strip()[-400:]
        raise MachineError(f"{argv[0]} on {connection.name} ended with {stream.code}: {said}")


def open_stream(connection: Connection, way: Way, command: str, kind: type[Kind]) -> Kind:
    """Run a shell line; who calls closes the stream."""

    async def opened_in(opened: Opened) -> Kind:
        await opened.turn().acquire()
        stream = kind(opened.turn().release)
        try:
            await begin(opened.connection, stream, command)
        except BaseException:
            opened.turn().release()
            raise
        return stream

    return connection.use(way, opened_in, timeout=MARGIN, again=True)


def _lines(connection: Connection, stream: Stream) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    rest = ""
    while piece := connection.background.call(stream.piece(), timeout=None):
        *whole, rest = (rest + decoder.decode(piece)).split("\n")
        yield from whole
        if len(rest) > LONGEST:
            yield rest
            rest = ""
    if rest:
        yield rest
