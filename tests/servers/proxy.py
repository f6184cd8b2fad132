"""A small HTTP proxy on loopback that fails on a schedule: what a network and a server do to a request.

A *plan* is asked about every request and returns what is to happen to it, None for nothing. Requests are
counted and kept, so that a test can also ask what was sent.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum, auto


class Point(Enum):
    """Where in the life of a request something happens to it."""

    REQUEST = auto()  # before it reaches the server
    UPLOAD = auto()  # in the middle of its body
    REPLY = auto()  # after the server acted, before its answer is passed on
    DOWNLOAD = auto()  # in the middle of the answer's body


@dataclass(frozen=True)
class Cut:
    """The connection ends; with *reset* by RST instead of FIN."""

    at: Point
    reset: bool = False


@dataclass(frozen=True)
class Say:
    """The server is not asked; this is the answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    after: bool = False  # the server is asked, and its answer replaced


@dataclass(frozen=True)
class Delay:
    at: Point
    seconds: float


class Gate:
    """The request stands still at a point until it is opened; ``reached`` tells that it does."""

    def __init__(self, at: Point, on_reach: Callable[[], None] = lambda: None) -> None:
        self.at, self._on_reach = at, on_reach
        self.reached = threading.Event()
        self._open: Future[None] = Future()

    def open(self) -> None:
        if not self._open.done():
            self._open.set_result(None)

    async def pass_through(self) -> None:
        self._on_reach()
        self.reached.set()
        await asyncio.wrap_future(self._open)


Fault = Cut | Say | Delay | Gate


@dataclass(frozen=True)
class Request:
    """``number`` counts from 1 over all connections."""

    number: int
    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


Plan = Callable[[Request], Fault | None]


def nothing(_: Request) -> Fault | None:
    return None


def at(number: int, fault: Fault) -> Plan:
    """Let *fault* happen to one request only."""
    return lambda request: fault if request.number == number else None


class CutError(Exception):
    """The connection to the client ends here."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


@dataclass
class Message:
    head: bytes
    body: bytes

    @property
    def first(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    def header(self, name: str) -> str | None:
        return _header(self.head, name)


class Proxy:
    """Passes requests on to *upstream*, a port of this machine, and lets the plan's faults happen."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self.port = 0
        self.requests: list[Request] = []
        self._plan: Plan = nothing
        self._number = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def schedule(self, plan: Plan) -> None:
        """Follow *plan* from now on; its requests are counted from 1 again."""
        self._plan, self._number, self.requests = plan, 0, []

    @contextlib.contextmanager
    def running(self) -> Iterator["Proxy"]:
        listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = listener.getsockname()[1]
        thread = threading.Thread(target=self._run, args=(listener,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(timeout=10)

    def _run(self, listener: socket.socket) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accepted, sock=listener))
        self._loop.run_forever()
        server.close()
        for task in (tasks := list(self._tasks)):
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, asyncio.sleep(0.01), return_exceptions=True))
        self._loop.close()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        plug: socket.socket = writer.get_extra_info("socket")
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else answers in two parts take 40 ms
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream: list[asyncio.StreamWriter] = []
        try:
            await self._serve(reader, writer, upstream)
        except CutError as cut:
            if cut.reset:
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for each in (writer, *upstream):
                each.transport.abort() if each is not writer else each.close()

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connections: list[asyncio.StreamWriter],
    ) -> None:
        up: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while True:
            asked = await _message(reader, empty=False)
            self._number += 1
            method, path, _ = asked.first.split(" ", 2)
            request = Request(self._number, method, path)
            self.requests.append(request)
            fault = self._plan(request)

            if isinstance(fault, Say) and not fault.after:
                writer.write(_spoken(fault))
                await writer.drain()
                continue
            await _happen(fault, Point.REQUEST)
            if up is None:
                up = await asyncio.open_connection("127.0.0.1", self._upstream, limit=2**20)
                connections.append(up[1])
            answer = await _exchange(asked, fault, up, method)
            await _happen(fault, Point.REPLY)
            if isinstance(fault, Say):
                writer.write(_spoken(fault))
            else:
                await _pass_on(answer, fault, writer)
            await writer.drain()
            if (answer.header("connection") or "").lower() == "close":
                return


async def _exchange(
    asked: Message, fault: Fault | None, up: tuple[asyncio.StreamReader, asyncio.StreamWriter], method: str
) -> Message:
    reader, writer = up
    half = len(asked.body) // 2
    writer.write(asked.head + asked.body[:half])
    await writer.drain()
    await _happen(fault, Point.UPLOAD)
    writer.write(asked.body[half:])
    await writer.drain()
    return await _message(reader, empty=method == "HEAD")


async def _pass_on(answer: Message, fault: Fault | None, writer: asyncio.StreamWriter) -> None:
    half = len(answer.body) // 2
    writer.write(answer.head + answer.body[:half])
    await writer.drain()
    await _happen(fault, Point.DOWNLOAD)
    writer.write(answer.body[half:])


async def _happen(fault: Fault | None, point: Point) -> None:
    if isinstance(fault, Say) or fault is None or fault.at is not point:
        return
    if isinstance(fault, Cut):
        raise CutError(reset=fault.reset)
    waiting: Awaitable[None] = (
        asyncio.sleep(fault.seconds) if isinstance(fault, Delay) else fault.pass_through()
    )
    await waiting


async def _message(reader: asyncio.StreamReader, *, empty: bool) -> Message:
    """Read a request or an answer; one with neither length nor chunks has no body."""
    head = await reader.readuntil(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        return await _message(reader, empty=empty)
    if empty:
        return Message(head, b"")
    if (_header(head, "transfer-encoding") or "").lower() == "chunked":
        return Message(head, await _chunks(reader))
    return Message(head, await reader.readexactly(int(_header(head, "content-length") or 0)))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while True:
        size = await reader.readline()
        data = await reader.readexactly(int(size.split(b";")[0], 16) + 2)
        parts += [size, data]
        if len(data) == 2:
            return b"".join(parts)


def _header(head: bytes, name: str) -> str | None:
    for line in head.decode("latin-1").split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.lower() == name:
            return value.strip()
    return None


def _spoken(say: Say) -> bytes:
    lines = [f"HTTP/1.1 {say.status} Said", "Content-Length: 0"]
    lines += [f"{key}: {value}" for key, value in say.headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
