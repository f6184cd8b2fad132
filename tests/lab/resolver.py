"""The provider's resolvers: every name has an IPv4 address that nobody answers at, and none has an IPv6 one.

So it is with the sites that programs are fetched from: a machine with IPv6 alone learns at once that it
cannot reach them. No answer is made up on the way (DNS64).
"""

import socket
import socketserver
import struct
import threading

from tests.lab.namespaces import Namespace

ADDRESSES = ("2a01:4ff:ff00::add:1", "2a01:4ff:ff00::add:2")
NOBODY = socket.inet_aton("192.0.2.80")
HEADER, A, IN = struct.Struct("!6H"), 1, 1


class _Server(socketserver.UDPServer):
    address_family = socket.AF_INET6


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        question, plug = self.request
        plug.sendto(answered(question), self.client_address)


class Resolver:
    def __init__(self, router: Namespace) -> None:
        self.router = router
        self._servers: list[_Server] = []

    def open(self) -> None:
        self.router.ip(*(f"addr add {each}/128 dev lo nodad" for each in ADDRESSES))
        for address in ADDRESSES:
            with self.router.entered():
                server = _Server((address, 53), _Handler)
            threading.Thread(target=server.serve_forever, args=[0.1], daemon=True).start()
            self._servers.append(server)

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


def answered(query: bytes) -> bytes:
    """The answer to one question: an A record, or that there is none."""
    number, *_ = HEADER.unpack_from(query)
    end = query.index(b"\0", HEADER.size) + 5
    question = query[HEADER.size : end]
    kind, _ = struct.unpack("!2H", question[-4:])
    found = struct.pack("!HHHIH", 0xC00C, A, IN, 60, 4) + NOBODY if kind == A else b""
    return HEADER.pack(number, 0x8180, 1, bool(found), 0, 0) + question + found
