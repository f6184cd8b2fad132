"""Monitoring ports of NATS servers that answer what real ones answered; one process, many servers.

Reads a JSON list of ``{"varz": ..., "jsz": ..., "healthz": ...}`` on stdin, null for a server that accepts
connections and never says a word; prints the list of their ports, and serves until its input ends.
"""

import asyncio
import functools
import json
import sys
from collections.abc import Mapping

HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


class Answering(asyncio.Protocol):
    """One connection."""

    def __init__(self, documents: Mapping[bytes, bytes] | None) -> None:
        self._documents = documents

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._documents is not None:
            self._transport.write(HEAD + self._documents[data.split(b" ", 2)[1]])
            self._transport.close()


async def serve(servers: list[Mapping[str, object] | None]) -> None:
    loop, ports = asyncio.get_running_loop(), []
    for each in servers:
        known = None if each is None else _texts(each)
        server = await loop.create_server(functools.partial(Answering, known), "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)


def _texts(documents: Mapping[str, object]) -> Mapping[bytes, bytes]:
    return {f"/{path}".encode(): json.dumps(body).encode() for path, body in documents.items()}


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.stdin.readline())))
