"""What other writers and other programs do while a test looks."""

import contextlib
import functools
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx

from morpheus.errors import RegistryConflictError
from morpheus.registry import Registry, Store
from tests.servers.proxy import Cut, Gate, Plan, Proxy, Request, Say
from tests.servers.webdav import WebDav
from tests.servers.writer import add


def through(proxy: Proxy, server: WebDav) -> WebDav:
    return replace(server, port=proxy.port)


@contextlib.contextmanager
def standing_still(gate: Gate, registry: Registry, number: int) -> Iterator[None]:
    """While the block runs, a writer stands at *gate*; it must have written when it is let go."""
    with ThreadPoolExecutor(1) as pool:
        try:
            update = pool.submit(add, registry, number)
            assert gate.reached.wait(30)
            yield
        finally:
            gate.open()
        update.result(timeout=90)


def written_by_another(server: WebDav, first: int, count: int) -> list[int]:
    other = Registry(server.store())
    numbers = list(range(first, first + count))
    for number in numbers:
        add(other, number)
    return numbers


def first_of(method: str, part: str, fault: Gate | Cut | Say) -> Plan:
    """Let *fault* happen to the first such request."""
    met: list[Request] = []

    def plan(request: Request) -> Gate | Cut | Say | None:
        if request.method == method and part in request.path and not met:
            met.append(request)
            return fault
        return None

    return plan


def published(server: WebDav) -> str:
    with server.client() as client:
        return client.get("morpheus/registry.json").raise_for_status().content.decode().rstrip(" ")


def put(server: WebDav, text: str) -> None:
    with server.client() as client:
        client.put("morpheus/registry.json", content=text.encode()).raise_for_status()


def changed(text: str) -> str:
    return json.dumps({**json.loads(text), "note": "by another program"})


@contextlib.contextmanager
def readers(*reads: Callable[[], object]) -> Iterator[None]:
    """While the block runs, each of *reads* is called over and over, in a thread of its own."""
    stop = threading.Event()

    def repeat(read: Callable[[], object]) -> int:
        count = 0
        while not stop.is_set():
            read()
            count += 1
        return count

    with ThreadPoolExecutor(len(reads)) as pool:
        running = [pool.submit(repeat, each) for each in reads]
        try:
            yield
        finally:
            stop.set()
        assert min(each.result() for each in running) > 20


@contextlib.contextmanager
def plain_readers(server: WebDav, count: int = 1) -> Iterator[None]:
    """Other programs read the copy meanwhile. On WsgiDAV, which writes in place, there are none."""

    def read(client: httpx.Client) -> None:
        assert "oak" in json.loads(client.get("morpheus/registry.json").raise_for_status().content)["forests"]

    with contextlib.ExitStack() as stack:
        if server.username:
            clients = [stack.enter_context(server.client()) for _ in range(count)]
            stack.enter_context(readers(*(functools.partial(read, each) for each in clients)))
        yield


LOCK_TIMEOUT = 1  # seconds here, 30 otherwise


def overtake(store: Store, others: int) -> None:
    """Write so many times, fast; who sleeps may wake up meanwhile, and begin anew, where that takes long."""
    (text, version, _), k = store.read(), 0
    while k < others:
        document = json.loads(text or "")
        document["forests"]["oak"]["used_numbers"].append(1000 + k)
        document["revision"] += 1
        document["writes"] = [*document.get("writes", []), f"write {k}"][-50:]
        written = json.dumps(document)
        try:
            version, text, k = store.write(written, version, backup=False), written, k + 1
        except RegistryConflictError:
            text, version, _ = store.read()
