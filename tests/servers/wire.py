"""A wire to a server, through which everything goes until it is cut: for what does not speak HTTP."""

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Iterator


class Wire:
    """Passes bytes on to the port *upstream*, in both directions, for any number of connections."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.port = int(self._listener.getsockname()[1])
        self.left: int | None = None  # bytes that still pass to the server before all is cut
        self.every: int | None = None  # and after that, again and again
        self.accepted = 0

    @contextlib.contextmanager
    def running(self) -> Iterator["Wire"]:
        thread = threading.Thread(target=self._accept)
        thread.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            self._listener.close()
            self.cut()

    def cut(self) -> None:
        """End every connection by a reset."""
        with self._lock:
            for each in self._open:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plug, _ = self._listener.accept()
                self.accepted += 1
                threading.Thread(target=self._pass, args=(plug,)).start()

    def _pass(self, plug: socket.socket) -> None:
        upstream = ("127.0.0.1", self._upstream)
        with plug, contextlib.suppress(OSError), socket.create_connection(upstream) as up:
            for each in (plug, up):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {plug, up}
            try:
                self._copy(plug, up)
            finally:
                with self._lock:
                    self._open -= {plug, up}

    def _copy(self, plug: socket.socket, up: socket.socket) -> None:
        while True:
            for source in select.select([plug, up], [], [])[0]:
                piece = source.recv(65536)
                if not piece:
                    return
                if source is up:
                    plug.sendall(piece)
                else:
                    up.sendall(piece)
                    self._count(len(piece))

    def _count(self, size: int) -> None:
        if self.left is None:
            return
        self.left -= size
        if self.left <= 0:
            self.left = self.every
            self.cut()
