"""What a server says of itself; whatever answers on its port, reading it ends in time and breaks nothing."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from morpheus.nats import monitor
from morpheus.nats.monitor import Reading
from tests.nats.grove import Grove


@contextmanager
def answering(answer: bytes, *, close: bool = True) -> Iterator[int]:
    """A port where every connection gets *answer*, whatever it asks."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.02)

        def serve() -> None:
            kept = []
            while not done.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                kept.append(connection)
                connection.recv(1000)
                connection.sendall(answer)
                if close:
                    connection.close()
            for connection in kept:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            done.set()
            thread.join()


def read(port: int, timeout: float = 0.3) -> Reading:
    return asyncio.run(monitor.read("127.0.0.1", port, timeout=timeout))


def test_a_reading_holds_what_the_server_measures(cluster: Grove) -> None:
    name = cluster.names[0]

    reading = cluster.read([name])[name]

    assert reading.reachable
    assert (reading.server, reading.health) == (name, "ok")
    assert reading.version.startswith("2.")
    assert reading.cores >= 1
    assert reading.memory > 1_000_000
    assert reading.max_storage == int(cluster.node(name).metadata["jetstream_file"])
    assert reading.max_js_memory == int(cluster.node(name).metadata["jetstream_memory"])


def test_one_server_leads_and_names_the_others(cluster: Grove) -> None:
    leaders = [reading for reading in cluster.read().values() if reading.leads]

    assert len(leaders) == 1
    assert leaders[0].meta
    assert {each.name for each in leaders[0].meta.replicas} == {*cluster.names} - {leaders[0].server}


def test_the_id_of_a_peer_follows_from_its_name(cluster: Grove) -> None:
    replicas = [each for reading in cluster.read().values() if reading.meta for each in reading.meta.replicas]

    assert replicas
    assert all(each.peer == monitor.peer_id(each.name) for each in replicas)


def test_readings_come_in_the_order_they_were_asked_for(cluster: Grove) -> None:
    ports = [("127.0.0.1", cluster.node(name).ports.monitor) for name in cluster.names]

    readings = monitor.read_all([ports[2], ("127.0.0.1", 1), ports[0]])

    assert [each.server for each in readings] == [cluster.names[2], "", cluster.names[0]]


def test_a_port_where_nobody_listens_is_said_to_be_silent() -> None:
    assert read(1).error == "nothing answers on its monitoring port"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_who_never_ends_is_given_up_in_time(answer: bytes) -> None:
    with answering(answer, close=False) as port:
        started = time.monotonic()
        reading = read(port)

    assert reading.error == "no answer within 0.3 s"
    assert time.monotonic() - started < 5


HEAD = b"HTTP/1.0 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"-ERR\r\n",
        b"INFO {}\r\n\r\n{}",
        HEAD,
        HEAD + b"<html>",
        HEAD + b"[]",
        HEAD + b"null",
        HEAD + b"{}",
        HEAD + b'{"server_name": 1}',
        HEAD + b"\xff\xfe",
    ],
)
def test_whatever_else_answers_cannot_be_read(answer: bytes) -> None:
    with answering(answer) as port:
        reading = read(port, timeout=5)

    assert reading.error.startswith("its answer cannot be read")
    assert not reading.leads


def test_many_servers_are_asked_in_turns_that_make_nobody_late() -> None:
    """A thousand files and sockets are what a program may have; each server takes three."""
    body = b'{"server_name": "a", "version": "2", "cpu": 1, "cores": 1, "mem": 1, "connections": 0, '
    body += b'"in_msgs": 0, "out_msgs": 0, "status": "ok"}'
    open_now, most = 0, 0

    async def ask() -> list[Reading]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.02)
            writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + body)
            open_now -= 1
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2000)
        async with server:
            address = ("127.0.0.1", int(server.sockets[0].getsockname()[1]))
            return await asyncio.to_thread(monitor.read_all, [address] * 400, timeout=2)

    readings = asyncio.run(ask())

    assert [each.error for each in readings] == [""] * 400
    assert most <= 3 * monitor.AT_ONCE
