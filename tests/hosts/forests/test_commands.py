"""The commands of a person on the laptop: looking at a forest, entering its machines, using its cluster."""

import json
import os
import signal
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from morpheus.cli.temporary import Temporary
from tests.growth.load import burning
from tests.growth.schema import Check
from tests.hosts.forests.conftest import settings
from tests.hosts.forests.stands import Stand, standing, talk
from tests.lab import Lab
from tests.lab.commands import until
from tests.servers.stand import Command, Done, started
from tests.simulator.clients import client_of

pytestmark = pytest.mark.root

NAMES = [f"oak-node-{k}" for k in (1, 2, 3)]


def start(stand: Stand, *words: str, given: str | None = None) -> Command:
    stand.home.enter()
    return started(words, os.environ | {"HOME": str(stand.home.folder)}, given)


def run(stand: Stand, *words: str, given: str | None = None) -> Done:
    return start(stand, *words, given=given).ended()


@contextmanager
def connected(stand: Stand, *words: str) -> Iterator[dict[str, str]]:
    """The environment for clients, while the command stands."""
    running = start(stand, "connect", "oak", "--output", "json", *words)
    try:
        running.until("\n}\n")
        yield json.loads("".join(running.out))["environment"]
    finally:
        assert running.ended(signal.SIGINT).code == 0


async def streams(client: Client) -> int:
    return (await client.jetstream().account_info()).streams


def test_a_command_runs_on_all_machines(either: Stand) -> None:
    done = run(either, "ssh", "oak", "--", "hostname; systemctl is-active nats")

    assert done.code == 0, done.err
    assert sorted(done.out.splitlines()) == sorted(
        f"node-{k} | {line}" for k in (1, 2, 3) for line in (f"oak-node-{k}", "active")
    )


def test_a_check_measures_machines_and_changes_nothing(either: Stand) -> None:
    before = either.home.enter().text

    idle = run(either, "grow", "oak", "--dry-run", "--threshold", "100", "--output", "json")
    with burning():
        busy = run(either, "grow", "oak", "--dry-run", "--threshold", "60", "--output", "json")

    assert idle.code == 0, idle.err
    nodes = Check.model_validate_json(idle.out).nodes
    assert [(each.name, each.reachable, each.state, each.lagging) for each in nodes] == [
        (name, True, "current", False) for name in NAMES
    ]
    assert all(None not in each.model_dump().values() for each in nodes)
    assert busy.code == 10, busy.err
    assert {each.node for each in Check.model_validate_json(busy.out).breaches if each.kind == "cpu"} == {
        *NAMES
    }
    assert either.home.text == before


def test_what_runs_on_machines_ends_with_the_command(either: Stand) -> None:
    running = start(either, "ssh", "oak", "--", "echo begun; cp /bin/sleep /tmp/lingerer; /tmp/lingerer 600")
    for k in (1, 2, 3):
        running.until(f"node-{k} | begun")
    assert running.ended(signal.SIGINT).code == 130

    ended = run(either, "ssh", "oak", "--", "while pgrep -x lingerer; do sleep 0.02; done")
    assert ended.code == 0


def test_one_logs_in_to_one_machine(either: Stand) -> None:
    done = run(either, "ssh", "oak", "2", given="hostname; exit 4\n")

    assert done.code == 4, done.err
    assert done.out.endswith("\noak-node-2\n")  # below what the machine says to those who log in


def test_journals_of_nats_and_the_workload_are_shown_in_order(either: Stand) -> None:
    done = run(either, "logs", "oak", "--lines", "1000", "--output", "json")

    lines = json.loads(done.out)["lines"]
    assert {line["node"] for line in lines} == {*NAMES}
    times = [line["line"].split()[0] for line in lines if line["line"].startswith("20")]
    assert times == sorted(times)
    for name in NAMES:
        assert any(line["node"] == name and "Server is ready" in line["line"] for line in lines)


@pytest.mark.parametrize("image", ["debian-12", "debian-13"])
def test_a_followed_journal_comes_back_with_its_machine(stand: Stand, image: str) -> None:
    stand.home.settle(hetzner={"image": image})
    stand.plant(nodes=1)
    (host,) = stand.hosts
    running = start(stand, "logs", "oak", "--follow")
    running.until("Server is ready")

    host.reboot()
    running.until("It goes on here when oak-node-1 is back.")
    until("its server says so anew", lambda: "".join(running.out).count("Server is ready") >= 2, timeout=90)
    done = running.ended(signal.SIGINT)

    assert done.code == 130
    lines = done.out.splitlines()
    assert len({*lines}) == len(lines)
    assert done.err.count("It goes on here") == 1


def test_status_reads_every_machine(either: Stand) -> None:
    done = run(either, "status", "oak", "--output", "json")

    told = json.loads(done.out)
    assert (done.code, told["formed"], told["unread"]) == (0, True, None)
    assert [node["state"] for node in told["nodes"]] == ["current"] * 3
    assert all(node["pid"] and node["workload_pid"] and node["memory_bytes"] for node in told["nodes"])


def test_an_unmodified_client_uses_every_node_through_the_tunnel(either: Stand) -> None:
    with connected(either) as environment:
        for url in environment["NATS_URL"].split(","):
            assert talk(url, streams) >= 0


def test_the_system_account_lists_every_server_through_the_tunnel(either: Stand) -> None:
    async def servers(client: Client) -> set[str]:
        inbox = client.new_inbox()
        answers = await client.subscribe(inbox)
        await client.publish("$SYS.REQ.SERVER.PING", reply=inbox)
        return {json.loads((await answers.next_msg(5)).data)["server"]["name"] for _ in NAMES}

    with connected(either, "--system") as environment:
        for url in environment["NATS_URL"].split(","):
            assert talk(url, servers, nkeys_seed=environment["NATS_NKEY"]) == {*NAMES}


def test_a_machine_that_is_off_keeps_nobody_from_the_others(stand: Stand) -> None:
    stand.plant(nodes=3)
    client = client_of(stand.simulator)
    server = client.servers.get_by_name("oak-node-2")
    assert server
    server.power_off().wait_until_finished()

    looked = run(stand, "status", "oak", "--output", "json")
    states = {node["name"]: node["state"] for node in json.loads(looked.out)["nodes"]}
    assert looked.code == 7
    assert states["oak-node-2"].startswith("unreachable (oak-node-2")
    assert (states["oak-node-1"], states["oak-node-3"]) == ("current", "current")

    asked = run(stand, "ssh", "oak", "--", "hostname")
    assert asked.code == 7
    assert sorted(asked.out.splitlines()) == ["node-1 | oak-node-1", "node-3 | oak-node-3"]
    with connected(stand) as environment:
        for url in environment["NATS_URL"].split(","):
            assert talk(url, streams) == 0


def test_where_clients_are_let_in_they_need_no_tunnel(lab: Lab, prefect: Temporary, tmp_path: Path) -> None:
    given: dict[str, Any] = settings("debian-13", tmp_path) | {"firewall": {"nats": ["::/0"]}}
    with standing(lab, tmp_path / "home", 4, 1, given) as stand:
        done = run(stand, "connect", "oak", "--output", "json")

        told = json.loads(done.out)
        known = told["environment"]
        assert (done.code, told["tunnel"]) == (0, False)
        tls = ssl.create_default_context(cafile=known["NATS_CA"])
        with lab.outside.entered():
            as_user = {"user": known["NATS_USER"], "password": known["NATS_PASSWORD"]}
            assert talk(known["NATS_URL"], streams, tls=tls, **as_user) == 1  # the workload's
