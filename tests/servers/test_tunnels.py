"""connect, on machines behind OpenSSH's own server: tunnels to NATS where it hears loopback alone."""

import asyncio
import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest

from morpheus.machine.binaries import nats_server
from morpheus.wait import wait_until
from tests.servers.stand import BOUND, Command, Stand, stand

pytestmark = pytest.mark.servers


@contextlib.contextmanager
def servers(forest: Stand) -> Iterator[None]:
    """A server of its own on the client port of each node; the application needs no credentials."""
    access, program = forest.secrets.access, nats_server(None, forest.folder / "cache", "").path
    running = []
    for node in forest.forest.nodes:
        config = forest.folder / f"{node.name}.conf"
        config.write_text(f"""
            server_name: {node.name}
            listen: "127.0.0.1:{node.ports.client}"
            accounts {{
              APP {{ users: [ {{ nkey: {access.app_key} }} ] }}
              SYS {{ users: [ {{ nkey: {access.system_key} }} ] }}
            }}
            system_account: SYS
            no_auth_user: {access.app_key}
        """)
        running.append(subprocess.Popen([str(program), "-c", str(config)], stderr=subprocess.DEVNULL))
    try:
        yield
    finally:
        for each in running:
            each.terminate()
            each.wait(BOUND)


@pytest.fixture
def forest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path / "data"))
    with stand(tmp_path, nodes=2) as made, servers(made):
        yield made


def told(command: Command) -> Any:
    """The JSON that the command printed while it goes on."""
    command.until("\n}\n")
    return json.loads("".join(command.out))


async def names(environment: dict[str, str]) -> set[str]:
    """The servers that answer under each address, to an unmodified client that was told *environment*."""
    found = set()
    for url in environment["NATS_URL"].split(","):
        client = await nats.connect(url, nkeys_seed=environment.get("NATS_NKEY"), connect_timeout=10)
        found.add(client._server_info["server_name"])
        if "NATS_NKEY" in environment:
            answer = await client.request("$SYS.REQ.SERVER.PING", timeout=10)
            assert json.loads(answer.data)["server"]["name"] in found
        else:
            inbox = await client.subscribe("hello")
            await client.publish("hello", b"there")
            assert (await inbox.next_msg(timeout=10)).data == b"there"
        await client.close()
    return found


@pytest.mark.parametrize("system", [False, True])
def test_an_unmodified_client_reaches_every_node_until_ctrl_c(forest: Stand, system: bool) -> None:
    more = ["--system"] if system else []
    running = forest.start("connect", "oak", "--output", "json", *more)
    said = told(running)

    assert said["tunnel"] is True
    assert asyncio.run(names(said["environment"])) == {"oak-node-1", "oak-node-2"}
    context = json.loads(Path(said["file"]).read_text())
    assert context["url"] == said["environment"]["NATS_URL"]
    assert context.get("nkey") == said["environment"].get("NATS_NKEY")

    done = running.ended(signal.SIGINT)

    assert done.code == 0
    assert done.err == "The tunnel is closed.\n"
    assert not Path(said["file"]).exists()


def test_a_terminated_tunnel_says_so_and_leaves_no_context(forest: Stand) -> None:
    running = forest.start("connect", "oak")
    running.until("Ctrl-C ends it")
    assert forest.context.exists()

    done = running.ended(signal.SIGTERM)

    assert done.code == 143
    assert done.out.startswith("export NATS_URL=nats://127.0.0.1:")
    assert done.err.endswith("Terminated. The tunnel is closed.\n")
    assert not forest.context.exists()


def test_a_dead_node_is_left_out(forest: Stand) -> None:
    forest.machines["oak-node-1"].stop()

    running = forest.start("connect", "oak", "--output", "json")
    said = told(running)

    assert list(said["unreachable"]) == ["oak-node-1"]
    assert asyncio.run(names(said["environment"])) == {"oak-node-2"}
    running.ended(signal.SIGINT)


def test_a_node_without_a_recorded_host_key_is_left_out(forest: Stand) -> None:
    forest.forget_key("oak-node-1")

    running = forest.start("connect", "oak", "--output", "json")
    said = told(running)

    assert list(said["unreachable"]) == ["oak-node-1"]
    assert "No host key of oak-node-1 is recorded" in said["unreachable"]["oak-node-1"]
    assert asyncio.run(names(said["environment"])) == {"oak-node-2"}
    running.ended(signal.SIGINT)


def test_a_tunnel_works_again_after_its_machine_does(forest: Stand) -> None:
    running = forest.start("connect", "oak", "--output", "json")
    environment = told(running)["environment"]
    for machine in forest.machines.values():
        machine.stop()
        machine.start()

    def reached() -> object:
        try:
            return asyncio.run(names(environment))
        except (OSError, nats.errors.Error) as error:
            return error

    both = {"oak-node-1", "oak-node-2"}
    wait_until("both nodes", reached, lambda seen: seen == both, str, timeout=BOUND, interval=0.1)
    running.ended(signal.SIGINT)


def test_where_no_machine_answers_nothing_is_written(forest: Stand) -> None:
    for machine in forest.machines.values():
        machine.stop()

    done = forest.run("connect", "oak")

    assert done.code == 7
    assert "refuses SSH connections" in done.err
    assert not forest.context.exists()
