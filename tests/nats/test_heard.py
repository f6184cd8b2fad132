"""Servers that workloads bring: what they tell is taken, what they do not tell is unknown."""

import asyncio
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from morpheus.errors import NotReadyError
from morpheus.forest import BROUGHT, Node
from morpheus.health import NodeHealth
from morpheus.machine import binaries
from morpheus.nats.cluster import heard
from morpheus.nats.greeting import greet_all, passed
from morpheus.nats.monitor import MetaGroup, Reading, Replica
from tests.nats.grove import wait_for
from tests.servers import free_port

GREETED = Reading(server="somebody", version="2.15.1", measured=False)
AWAY = Reading(error="nothing answers on its client port")


def measured(name: str, *, meta: MetaGroup | None = None, health: str = "ok") -> Reading:
    return Reading(server=name, version="2.15.1", health=health, cpu=12.0, cores=2, memory=2**20, meta=meta)


# The verdict


def test_servers_that_only_greet_are_neither_well_nor_unwell() -> None:
    verdict = heard({"oak-node-1": GREETED, "oak-node-2": GREETED})

    assert (verdict.formed, verdict.known) == (False, False)
    assert verdict.reason == "2 of 2 answer; more cannot be measured from outside"
    assert set(verdict.states.values()) == {"unknown (it answers, and has no monitoring)"}


@pytest.mark.parametrize(
    ("wrong", "state"),
    [
        (AWAY, "unreachable (nothing answers on its client port)"),
        (measured("oak-node-2", health="no leader"), "unhealthy (no leader)"),
    ],
)
def test_one_that_is_away_or_unwell_is_known_to_be(wrong: Reading, state: str) -> None:
    verdict = heard({"oak-node-1": GREETED, "oak-node-2": wrong})

    assert (verdict.formed, verdict.known) == (False, True)
    assert verdict.states["oak-node-2"] == state
    assert verdict.reason.endswith(f"; oak-node-2 is {state}")


def test_servers_with_our_names_and_a_meta_group_are_judged_as_ours_are() -> None:
    group = MetaGroup("oak-node-1", 2, (Replica("oak-node-2", current=True),))

    verdict = heard({name: measured(name, meta=group) for name in ("oak-node-1", "oak-node-2")})

    assert (verdict.formed, verdict.known, verdict.leader) == (True, True, "oak-node-1")


def test_what_is_well_under_another_name_is_not_called_formed() -> None:
    verdict = heard({"oak-node-1": measured("forest-a"), "oak-node-2": measured("forest-b")})

    assert (verdict.formed, verdict.known) == (False, False)
    assert set(verdict.states.values()) == {"unknown (it is well; its cluster is its own affair)"}


def test_what_was_not_measured_is_not_zero() -> None:
    node = Node("oak-node-1", "::1", metadata=BROUGHT)

    one, other = (NodeHealth(node, "", each, None, 1) for each in (GREETED, measured("oak-node-1")))

    assert (one.cpu, one.memory) == (None, None)
    assert (other.cpu, other.memory) == (6.0, 2**20)


# Real servers


Start = Callable[..., int]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server without monitoring, on loopback; what is given to it beside a port."""
    program, processes = str(binaries.nats_server(None, Path("/nowhere"), "").path), []

    def started(*options: str) -> int:
        port = free_port()
        command = [program, "-a", "127.0.0.1", "-p", str(port), *options]
        processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        wait_for(lambda: greet_all([("127.0.0.1", port)])[0], lambda seen: seen.reachable)
        return port

    yield started
    for process in processes:
        process.kill()
        process.wait(timeout=10)


def urls(*ports: int) -> list[str]:
    return [f"nats://127.0.0.1:{port}" for port in ports]


def test_every_server_greets(start: Start) -> None:
    (told,) = greet_all([("127.0.0.1", start("--name", "mine"))])

    assert (told.server, told.reachable, told.measured, told.known) == ("mine", True, False, False)
    assert told.version.startswith("2.")


def test_nobody_and_somebody_else_are_told_apart() -> None:
    with silent() as mute, speaking(b"SSH-2.0-OpenSSH_9.9\r\n") as other, speaking(b"INFO {x\r\n") as odd:
        ports = (free_port(), mute, other, odd)
        told = greet_all([("127.0.0.1", port) for port in ports], timeout=0.3)

    assert [each.error for each in told] == [
        "nothing answers on its client port",
        "no greeting within 0.3 s",
        "what answers on its client port is no NATS server",
        "what answers on its client port is no NATS server",
    ]


def test_a_message_passes_through_a_cluster_and_through_one_server_alone(start: Start) -> None:
    routes = free_port()
    one = start("--cluster_name", "oak", "--cluster", f"nats://127.0.0.1:{routes}")
    others = [
        start(
            "--cluster_name",
            "oak",
            "--cluster",
            "nats://127.0.0.1:-1",
            "--routes",
            f"nats://127.0.0.1:{routes}",
        )
        for _ in range(2)
    ]

    assert asyncio.run(passed(urls(one, *others), timeout=10)) < 10
    assert asyncio.run(passed(urls(one), timeout=10)) < 10


def test_servers_that_do_not_know_each_other_pass_nothing(start: Start) -> None:
    ports = start(), start()

    with pytest.raises(NotReadyError, match="within 0 s; last seen: what was sent into one server"):
        asyncio.run(passed(urls(*ports), timeout=0.4))


def test_a_server_that_lets_nobody_in_says_so(start: Start) -> None:
    port = start("--user", "me", "--pass", "secret")

    with pytest.raises(NotReadyError, match="Authorization Violation"):
        asyncio.run(passed(urls(port), timeout=2))


@contextmanager
def silent() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def speaking(words: bytes) -> Iterator[int]:
    """Somebody who says these words to the first who comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak() -> None:
            with server.accept()[0] as plug:
                plug.sendall(words)
                plug.recv(1)

        thread = threading.Thread(target=speak)
        thread.start()
        yield server.getsockname()[1]
        thread.join(timeout=10)
