"""A real cluster of three: it forms, a message passes, only who may enters, and a probe leaves nothing."""

import asyncio
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nats.errors
import pytest

from morpheus.errors import NotReadyError, UnreachableError
from morpheus.nats import admin, streams
from tests.nats.conftest import Planter
from tests.nats.grove import Grove, wait_for
from tests.nats.listening import listening

WORKLOAD = """
import asyncio, os
import nats, nats.errors

async def again(ask):
    # In the first moments of a cluster or a stream, what is asked may be refused or get no answer.
    for _ in range(40):
        try:
            return await ask()
        except nats.errors.Error:
            await asyncio.sleep(0.25)
    return await ask()

async def main():
    name = os.environ["NAME"]
    client = await nats.connect(os.environ["NATS_URL"])
    stream = client.jetstream(timeout=2)
    await again(lambda: stream.add_stream(name=name, subjects=[name], num_replicas=3))
    acknowledged = await again(lambda: stream.publish(name, b"hello"))
    message = await again(lambda: stream.get_msg(name, acknowledged.seq))
    print(message.data.decode())
    await stream.delete_stream(name)
    await client.close()

asyncio.run(main())
"""


def streams_of(grove: Grove) -> list[str]:
    async def names() -> list[str]:
        async with admin.connected(grove.urls()) as client:
            return await admin.stream_names(client)

    return asyncio.run(names())


async def create(client: Any, name: str, replicas: int = 3) -> None:
    config = {"name": name, "subjects": [f"test.{name}"], "num_replicas": replicas, "storage": "memory"}
    await admin.api(client, f"$JS.API.STREAM.CREATE.{name}", config, timeout=5)


def test_three_nodes_form_and_a_message_passes(plant: Planter) -> None:
    grove = plant(1, 2, 3)

    grove.start()
    verdict = grove.wait_formed()

    assert verdict.current == 3
    assert asyncio.run(admin.probe(grove.urls(), timeout=20)) < 20


def test_one_node_alone_is_ready_and_a_message_passes(plant: Planter) -> None:
    grove = plant(1)

    grove.start()
    verdict = grove.wait_formed()

    assert verdict.reason == "1 of 1 current"
    assert asyncio.run(admin.probe(grove.urls(), timeout=20)) < 20


def test_a_probe_leaves_no_stream(cluster: Grove) -> None:
    asyncio.run(admin.probe(cluster.urls(), timeout=20))

    assert streams_of(cluster) == []


def test_a_probe_removes_what_an_interrupted_one_left_and_nothing_else(cluster: Grove) -> None:
    async def leave() -> None:
        async with admin.connected(cluster.urls()) as client:
            stale = {"name": f"{admin.PROBE_PREFIX}stale", "subjects": [f"{admin.PROBE_SUBJECT}stale"]}
            await admin.api(client, f"$JS.API.STREAM.CREATE.{stale['name']}", stale, timeout=5)
            await create(client, "KEPT")

    asyncio.run(leave())
    asyncio.run(admin.probe(cluster.urls(), timeout=20))
    left = streams_of(cluster)
    asyncio.run(_delete(cluster, *left))

    assert left == ["KEPT"]


async def _delete(grove: Grove, *names: str) -> None:
    async with admin.connected(grove.urls()) as client:
        for name in names:
            await admin.api(client, f"$JS.API.STREAM.DELETE.{name}", timeout=5)


def test_a_cancelled_probe_leaves_no_stream(cluster: Grove) -> None:
    async def cancelled(after: float) -> None:
        probe = asyncio.create_task(admin.probe(cluster.urls(), timeout=20))
        await asyncio.wait([probe], timeout=after)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)

    for milliseconds in (5, 15, 25, 40, 60):
        asyncio.run(cancelled(milliseconds / 1000))

    assert streams_of(cluster) == []


def test_two_probes_at_once_both_pass(cluster: Grove) -> None:
    def probe(_: int) -> float:
        return asyncio.run(admin.probe(cluster.urls(), timeout=20))

    with ThreadPoolExecutor(2) as pool:
        assert max(pool.map(probe, range(2))) < 20


def test_a_probe_of_nobody_ends_in_time_and_says_so() -> None:
    started = time.monotonic()

    with pytest.raises(NotReadyError, match=r"127\.0\.0\.1:1"):
        asyncio.run(admin.probe(["nats://127.0.0.1:1"], timeout=0.5))

    assert time.monotonic() - started < 5


def test_a_connection_is_made_to_the_first_that_answers(cluster: Grove) -> None:
    async def name() -> str:
        async with admin.connected(["nats://127.0.0.1:1", *cluster.urls()[1:]]) as client:
            return str(client._server_info["server_name"])

    assert asyncio.run(name()) == cluster.names[1]


@pytest.mark.parametrize("url", ["nats://127.0.0.1:1", "nats://127.0.0.1:99999", "http://[", ""])
def test_a_connection_to_nobody_fails_at_once(url: str) -> None:
    async def connect() -> None:
        async with admin.connected([url]):
            pass

    started = time.monotonic()
    with pytest.raises(UnreachableError, match="No connection"):
        asyncio.run(connect())
    assert time.monotonic() - started < 5


def test_a_program_that_knows_only_its_url_uses_jetstream_on_every_node(cluster: Grove) -> None:
    for k, name in enumerate(cluster.names):
        url = f"nats://localhost:{cluster.node(name).ports.client}"
        env = {"NATS_URL": url, "NAME": f"WORKLOAD_{k}"}
        argv = [sys.executable, "-c", WORKLOAD]

        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30, check=False)

        assert (done.stdout, done.stderr) == ("hello\n", "")


def test_the_system_account_is_closed_to_who_has_no_credentials(cluster: Grove) -> None:
    async def ask() -> None:
        async with admin.connected(cluster.urls()) as client:
            await client.request("$SYS.REQ.SERVER.PING", timeout=0.5)

    with pytest.raises(nats.errors.Error):
        asyncio.run(ask())


# First what is asked, then what is heard: it would hear its own requests. NATS tells every account of itself.
EAVESDROPPER = """
import asyncio, os
import nats, nats.errors

async def main():
    client = await nats.connect(os.environ["NATS_URL"])
    answers = []
    everybodys = ["SERVER.PING", "SERVER.PING.VARZ", "SERVER.PING.JSZ", "ACCOUNT.SYS.CONNZ"]
    its_own = ["ACCOUNT.PING.CONNZ", "ACCOUNT.PING.STATZ", "USER.INFO"]
    for what in (*everybodys, *its_own):
        try:
            answer = await client.request(f"$SYS.REQ.{what}", timeout=1)
            answers += [what] if what in everybodys or b'"SYS"' in answer.data else []
        except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
            pass
    heard = await client.subscribe("$SYS.>")
    await client.flush()
    print("listening", flush=True)
    await asyncio.to_thread(input)  # until the system account's own user has heard something
    await client.flush()
    print(answers, heard.pending_msgs)
    await client.close()

asyncio.run(main())
"""


def test_a_program_that_knows_only_its_url_gets_nothing_of_the_system_account(cluster: Grove) -> None:
    """Of the same kind as the workload's connection, on every node: neither an answer nor an event."""

    async def something_happens(url: str) -> None:
        async with admin.connected([url], cluster.access.system_seed) as system:
            events = await system.subscribe("$SYS.>")
            await listening(system)
            async with admin.connected([url]):  # whoever comes is an event
                await events.next_msg(timeout=10)

    for name in cluster.names:
        url = f"nats://localhost:{cluster.node(name).ports.client}"
        with subprocess.Popen(
            [sys.executable, "-c", EAVESDROPPER],
            env={"NATS_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as program:
            try:
                assert program.stdout is not None
                assert program.stdout.readline() == "listening\n"
                asyncio.run(something_happens(url))
                out, err = program.communicate("go on\n", timeout=30)
            finally:
                program.kill()

        assert (out, err) == ("[] 0\n", "")


def test_the_system_account_is_closed_to_the_application(cluster: Grove) -> None:
    async def ask() -> None:
        async with admin.connected(cluster.urls(), cluster.access.app_seed) as client:
            await client.request("$SYS.REQ.SERVER.PING", timeout=0.5)

    with pytest.raises(nats.errors.Error):
        asyncio.run(ask())


def test_a_foreign_key_is_refused(cluster: Grove, tmp_path: Path) -> None:
    foreign = Grove(tmp_path, name="elm").access

    async def connect() -> None:
        async with admin.connected(cluster.urls()[:1], foreign.system_seed):
            pass

    with pytest.raises(UnreachableError, match="Authorization"):
        asyncio.run(connect())


def test_the_system_user_hears_from_every_node(cluster: Grove) -> None:
    async def ping() -> set[str]:
        async with admin.connected(cluster.urls(), cluster.access.system_seed) as client:
            inbox = client.new_inbox()
            answers = await client.subscribe(inbox)
            await client.publish("$SYS.REQ.SERVER.PING", reply=inbox)
            found = [json.loads((await answers.next_msg(timeout=5)).data) for _ in cluster.names]
            return {each["server"]["name"] for each in found}

    assert asyncio.run(ping()) == {*cluster.names}


@pytest.mark.parametrize("authorization", ["", 'authorization { user: "route", password: "guessed" }'])
def test_a_server_without_the_route_password_cannot_join(
    cluster: Grove, tmp_path: Path, authorization: str
) -> None:
    log, password = tmp_path / "log", "route:guessed@" if authorization else ""
    routes = " ".join(
        f'"nats://{password}127.0.0.1:{cluster.node(name).ports.cluster}"\n' for name in cluster.names
    )
    (tmp_path / "conf").write_text(
        f'server_name: "intruder"\nlisten: "127.0.0.1:-1"\nlog_file: "{log}"\n'
        f'jetstream {{ store_dir: "{tmp_path}" }}\n'
        f'cluster {{\nname: "oak"\nlisten: "127.0.0.1:-1"\n{authorization}\nroutes: [\n{routes}]\n}}\n'
    )

    with subprocess.Popen([cluster.binary, "-c", tmp_path / "conf"]) as intruder:
        wait_for(
            lambda: log.read_text().lower() if log.exists() else "", lambda said: "authorization" in said
        )
        for name in cluster.names:
            others = {route["remote_name"] for route in cluster.ask(name, "/routez")["routes"]}
            assert others == {*cluster.names} - {name}
        intruder.kill()

    assert cluster.wait_formed().current == 3


def test_no_secret_is_told_by_the_monitoring_port_or_the_log(cluster: Grove) -> None:
    secrets = (cluster.access.route_password, cluster.access.app_seed, cluster.access.system_seed)

    for name in cluster.names:
        paths = ("/varz", "/routez", "/connz?auth=true", "/jsz?config=true", "/accountz?acc=APP", "/subsz")
        told = " ".join(json.dumps(cluster.ask(name, path)) for path in paths)
        told += Path(cluster.machine(name).layout.log).read_text()
        assert not [secret for secret in secrets if secret in told]


def test_more_streams_than_a_page_holds_are_all_listed(cluster: Grove) -> None:
    wanted = {f"MANY_{k}" for k in range(300)}

    async def make() -> None:
        async with admin.connected(cluster.urls()) as client:
            for name in wanted:
                await create(client, name, replicas=1)

    asyncio.run(make())
    try:
        found = asyncio.run(streams.streams(cluster.urls(), cluster.access.app_seed))
        names = streams_of(cluster)
    finally:
        asyncio.run(_delete(cluster, *wanted))

    assert set(names) == wanted
    assert {*found.replicas, *found.missing} == wanted  # a busy one may not answer in time
    assert found.replicas == found.current == dict.fromkeys(found.replicas, 1)


def test_removing_a_server_that_is_no_member_is_fine(cluster: Grove) -> None:
    asyncio.run(admin.remove_peer(cluster.urls(), cluster.access.system_seed, "oak-node-9"))

    assert cluster.wait_formed().current == 3


def test_nats_calls_a_server_that_is_no_member_what_we_take_it_for(cluster: Grove) -> None:
    async def remove() -> None:
        async with admin.connected(cluster.urls(), cluster.access.system_seed) as client:
            await admin.api(client, "$JS.API.SERVER.REMOVE", {"peer": "oak-node-9"}, timeout=5)

    with pytest.raises(admin.ApiError) as caught:
        asyncio.run(remove())

    assert caught.value.err_code == admin._NOT_MEMBER


def test_only_the_system_user_may_remove_a_server(cluster: Grove, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "LIST_TIMEOUT", 0.5)

    with pytest.raises((admin.ApiError, UnreachableError)):
        asyncio.run(admin.remove_peer(cluster.urls(), cluster.access.app_seed, cluster.names[0]))

    assert cluster.wait_formed().current == 3
