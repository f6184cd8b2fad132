"""Real servers, configured as on machines of their own: who may join, who may enter, and from where."""

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest

from morpheus.machine import NATS
from morpheus.nats import admin
from morpheus.nats.listeners import Openings, workload_environment
from tests.machine.conftest import free_ports
from tests.nats.clearing import PASSWORD, Clearing
from tests.nats.grove import wait_for
from tests.nats.test_cluster import WORKLOAD

OPEN = Openings(nats=True, leafnode=True, monitoring=True)
Clear = Callable[..., Clearing]


@pytest.fixture
def clear(tmp_path: Path) -> Iterator[Clear]:
    with ExitStack() as stack:

        def cleared(*numbers: int, openings: Openings | None = None) -> Clearing:
            clearing = Clearing(tmp_path, *numbers, openings=openings)
            stack.callback(clearing.close)
            return clearing

        yield cleared


@pytest.fixture
def opened(clear: Clear) -> Clearing:
    """One node, everything of which may be reached from outside."""
    clearing = clear(1, openings=OPEN)
    clearing.leafnode_port = free_ports().client
    clearing.start()
    clearing.wait_formed()
    return clearing


def works(clearing: Clearing, name: str, told: Mapping[str, str], replicas: int = 3) -> str:
    """What the workload prints, run beside the server of *name* with nothing but what it is *told*."""
    url = told["NATS_URL"].replace("4222", port(clearing, name))
    script = WORKLOAD.replace("num_replicas=3", f"num_replicas={replicas}")
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**told, "NATS_URL": url, "NAME": name},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout.strip() or done.stderr[-300:]


def port(clearing: Clearing, name: str) -> str:
    return str(clearing.node(name).ports.client)


def greeting(host: str, number: str) -> dict[str, Any]:
    """What a server says first to a client."""
    with socket.create_connection((host, int(number)), timeout=5) as client:
        return dict(json.loads(client.makefile("rb").readline().removeprefix(b"INFO ")))


def test_nodes_with_certificates_of_their_authority_form_a_cluster_that_workloads_use(clear: Clear) -> None:
    clearing = clear(1, 2, 3)

    clearing.start()

    assert clearing.wait_formed().current == 3
    told = workload_environment("oak", Openings(), PASSWORD)
    assert [works(clearing, name, told) for name in clearing.names] == ["hello"] * 3


def test_a_client_is_not_led_to_the_loopback_of_other_nodes(clear: Clear) -> None:
    clearing = clear(1, 2, 3)

    clearing.start()
    clearing.wait_formed()

    greetings = [greeting("127.0.0.1", port(clearing, name)) for name in clearing.names]
    assert ["connect_urls" in each for each in greetings] == [False] * 3


def test_a_node_with_a_certificate_of_another_authority_stays_outside(clear: Clear) -> None:
    clearing = clear(1, 2, 3)
    clearing.start()
    clearing.wait_formed()
    (stranger,) = clearing.add(4)
    clearing.foreign[stranger] = Clearing(clearing.folder / "elsewhere").authority

    clearing.start([stranger])

    log = Path(clearing.machine(stranger).layout.log)
    wait_for(lambda: "tls: " in log.read_text(), bool)
    assert clearing.ask(stranger, "/routez")["num_routes"] == 0
    assert clearing.verdict(clearing.names[:3]).formed


def test_nothing_but_routes_is_heard_outside_the_loopback_of_a_closed_node(clear: Clear) -> None:
    clearing = clear(1, 2, 3)

    clearing.start()

    node = clearing.node("oak-node-1")
    for number in (node.ports.client, node.ports.monitor):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("::1", number), timeout=5)
    with socket.create_connection(("::1", node.ports.cluster), timeout=5):
        pass


def test_the_system_account_stays_closed_to_who_has_no_credentials(clear: Clear) -> None:
    clearing = clear(1)
    clearing.start()

    async def ask() -> None:
        async with admin.connected([f"nats://127.0.0.1:{port(clearing, clearing.names[0])}"]) as client:
            await client.request("$SYS.REQ.SERVER.PING", timeout=1)

    with pytest.raises(nats.errors.Error):
        asyncio.run(ask())


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_an_open_node_takes_clients_with_the_password_who_trust_its_authority(
    opened: Clearing, host: str
) -> None:
    told = dict(workload_environment("oak", OPEN, PASSWORD))
    told["NATS_URL"] = told["NATS_URL"].replace("localhost", host)
    told["SSL_CERT_FILE"] = opened.tls("oak-node-1").authority

    assert works(opened, "oak-node-1", told, replicas=1) == "hello"


@pytest.mark.parametrize("who", ["", "app:wrong@", f"wrong:{PASSWORD}@"])
def test_an_open_node_refuses_who_has_not_the_password(opened: Clearing, who: str) -> None:
    async def enter() -> None:
        url = f"tls://{who}localhost:{port(opened, 'oak-node-1')}"
        await nats.connect(url, tls=opened.trust(), allow_reconnect=False)

    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        asyncio.run(enter())


def test_an_open_node_refuses_who_speaks_no_tls(opened: Clearing) -> None:
    with socket.create_connection(("::1", int(port(opened, "oak-node-1"))), timeout=5) as client:
        file = client.makefile("rb")
        told = json.loads(file.readline().removeprefix(b"INFO "))
        client.sendall(b'CONNECT {"user":"app","pass":"%s"}\r\nPING\r\n' % PASSWORD.encode())

        try:
            answer = file.read()
        except ConnectionResetError:
            answer = b""

    assert told["tls_required"]
    assert b"PONG" not in answer


def test_a_client_that_trusts_another_authority_goes_away(opened: Clearing) -> None:
    async def enter() -> None:
        url = f"tls://app:{PASSWORD}@localhost:{port(opened, 'oak-node-1')}"
        stranger = Clearing(opened.folder / "elsewhere")
        await nats.connect(url, tls=stranger.trust(), allow_reconnect=False)

    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(enter())


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_an_open_monitoring_answers_on_every_address(opened: Clearing, host: str) -> None:
    number = opened.node("oak-node-1").ports.monitor

    with urllib.request.urlopen(f"http://{host}:{number}/varz", timeout=5) as answer:
        assert json.load(answer)["server_name"] == "oak-node-1"


@pytest.mark.parametrize(("password", "leaves"), [(PASSWORD, 1), ("wrong", 0)])
def test_a_leaf_node_joins_with_the_password(
    opened: Clearing, tmp_path: Path, password: str, leaves: int
) -> None:
    ports = free_ports()
    conf = tmp_path / "leaf.conf"
    remote = f"tls://app:{password}@[::1]:{opened.leafnode_port}"
    conf.write_text(
        f'listen: "127.0.0.1:{ports.client}"\nhttp: "127.0.0.1:{ports.monitor}"\n'
        f'leafnodes {{ remotes: [ {{ url: "{remote}", '
        f'tls {{ ca_file: "{opened.tls("oak-node-1").authority}" }} }} ] }}\n'
    )
    log = tmp_path / "leaf.log"
    env = {**os.environ, "GOMAXPROCS": "1"}
    with (
        log.open("wb") as output,
        subprocess.Popen([opened.binary, "-c", str(conf)], env=env, stderr=output) as leaf,
    ):
        try:
            wait_for(lambda: "Leafnode connection created" in log.read_text() and log.read_text(), bool)
            wanted = "JetStream using domains" if leaves else "Authorization Violation"
            wait_for(lambda: wanted in log.read_text(), bool)

            assert opened.ask("oak-node-1", "/leafz")["leafnodes"] == leaves
        finally:
            leaf.kill()


def test_a_server_in_lame_duck_mode_ends_soon_when_clients_are_few(clear: Clear) -> None:
    clearing = clear(1)
    clearing.start()
    pid = clearing.machine("oak-node-1").pid(NATS)
    assert pid

    os.kill(pid, signal.SIGUSR2)

    wait_for(lambda: clearing.machine("oak-node-1").pid(NATS) is None, bool, timeout=30)
