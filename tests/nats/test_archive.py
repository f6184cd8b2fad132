"""Streams of every kind are saved from one server and restored in a cluster of three: they are the same."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    KeyValueConfig,
    ObjectStoreConfig,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.client import JetStreamContext

from morpheus.errors import MachineError, NotReadyError, RefusedError, UnreachableError
from morpheus.machine import NATS
from morpheus.nats import archive, holdings
from morpheus.nats.admin import ApiError, api, connected, stream_names
from morpheus.nats.archive import Archive
from tests.machine.conftest import free_ports
from tests.nats.conftest import Planter
from tests.nats.grove import Grove, wait_for

COUNT = 300
PATIENCE = 4  # seconds after which a reader gets again what it did not acknowledge
OBJECT = bytes(range(256)) * 5000
KINDS = ("deep", "work", "wanted", "KV_keys", "OBJ_attic", "quick")
READERS = {
    "deep": {"still", "pull", "push"},
    "work": {"work"},
    "wanted": {"one", "other"},
    "KV_keys": set[str](),
    "OBJ_attic": set[str](),
    "quick": {"quick"},
}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grove]:
    """A forest of one whose streams are of every kind, with readers in the middle of them."""
    grove = Grove(tmp_path_factory.mktemp("old"), 1)
    try:
        grove.start()
        grove.wait_formed()
        asyncio.run(fill(grove))
        yield grove
    finally:
        grove.close()


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grove]:
    grove = Grove(tmp_path_factory.mktemp("new"), 1, 2, 3)
    try:
        grove.start()
        grove.wait_formed()
        yield grove
    finally:
        grove.close()


@pytest.fixture(scope="module")
def archives(old: Grove, tmp_path_factory: pytest.TempPathFactory) -> tuple[Archive, ...]:
    return save_all(old, tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="module")
def restored(new: Grove, archives: tuple[Archive, ...]) -> tuple[Archive, ...]:
    """The archives, once all of them are in the new cluster."""

    async def run() -> None:
        async with connected(new.urls()) as client:
            for each in archives:
                await archive.restore(client, each, 3)
            await archive.check_restored(client, archives, 3)

    asyncio.run(run())
    return archives


@asynccontextmanager
async def at(grove: Grove) -> AsyncIterator[tuple[Client, JetStreamContext]]:
    client = await nats.connect(grove.urls()[0])
    try:
        yield client, client.jetstream(timeout=5)
    finally:
        await client.close()


async def fill(grove: Grove) -> None:
    async with at(grove) as (_, stream):
        memory, file = StorageType.MEMORY, StorageType.FILE
        for name, retention, storage in (
            ("deep", RetentionPolicy.LIMITS, file),
            ("work", RetentionPolicy.WORK_QUEUE, file),
            ("wanted", RetentionPolicy.INTEREST, file),
            ("quick", RetentionPolicy.LIMITS, memory),
        ):
            await stream.add_stream(
                StreamConfig(name=name, subjects=[f"{name}.*"], retention=retention, storage=storage)
            )
            for reader in sorted(READERS[name]):
                give = f"give.{reader}" if reader == "push" else None
                config = ConsumerConfig(
                    durable_name=reader,
                    ack_policy=AckPolicy.EXPLICIT,
                    ack_wait=PATIENCE,
                    deliver_subject=give,
                )
                await stream.add_consumer(name, config)
            for k in range(COUNT):
                headers = {"Nats-Msg-Id": f"{name}-{k}", "Number": str(k)}
                await stream.publish(f"{name}.{k % 7}", f"{name} {k}".encode() * 20, headers=headers)
        for seq in (3, 50, 51, 200):
            await stream.delete_msg("deep", seq)
        for name, reader, taken, acknowledged in (
            ("deep", "pull", 40, 25),
            ("work", "work", 30, 20),
            ("wanted", "one", 100, 60),
            ("wanted", "other", 80, 80),
            ("quick", "quick", 10, 4),
        ):
            await take(stream, name, reader, taken, acknowledged)
        await take_pushed(stream, 12, 7)
        keys = await stream.create_key_value(KeyValueConfig("keys", history=5))
        for k in range(40):
            await keys.put(str(k % 6), f"value {k}".encode())
        await keys.delete("1")
        await keys.purge("2")
        attic = await stream.create_object_store("attic", ObjectStoreConfig())
        await attic.put("leaf", OBJECT)


async def take(stream: JetStreamContext, name: str, reader: str, taken: int, acknowledged: int) -> None:
    pull = await stream.pull_subscribe_bind(reader, name)
    messages = await pull.fetch(taken)
    assert len(messages) == taken
    for message in messages[:acknowledged]:
        await message.ack_sync()


async def take_pushed(stream: JetStreamContext, taken: int, acknowledged: int) -> None:
    """Take some of what the push consumer gives, and acknowledge some of it, the last one given back once."""
    push = await stream.subscribe_bind(
        "deep", ConsumerConfig(deliver_subject="give.push"), "push", manual_ack=True
    )
    for k in range(taken):
        message = await push.next_msg(timeout=5)
        if k < acknowledged:
            await message.ack_sync()
    await message.nak()
    while message.metadata.num_delivered == 1:
        message = await push.next_msg(timeout=5)
    await push.unsubscribe()


def save_all(grove: Grove, folder: Path) -> tuple[Archive, ...]:
    async def run() -> tuple[Archive, ...]:
        async with connected(grove.urls()) as client:
            names = [each["config"]["name"] for each in await holdings.streams(client)]
            return tuple([await archive.save(client, name, folder) for name in sorted(names)])

    return asyncio.run(run())


async def everything(stream: JetStreamContext, name: str) -> Mapping[int, Any]:
    """All that is in a stream, by its sequence."""
    state = (await stream.stream_info(name)).state
    found: dict[int, Any] = {}
    for seq in range(state.first_seq, state.last_seq + 1):
        try:
            message = await stream.get_msg(name, seq)
        except nats.js.errors.NotFoundError:
            continue
        found[seq] = (message.subject, message.data, message.headers, message.time)
    return found


async def raw_config(client: Client, name: str) -> Mapping[str, Any]:
    config = (await api(client, f"$JS.API.STREAM.INFO.{name}"))["config"]
    assert isinstance(config, dict)
    return config


def test_every_stream_and_every_durable_reader_is_saved(archives: tuple[Archive, ...]) -> None:
    assert {each.stream: set(each.consumers) for each in archives} == READERS
    assert archive.saved(archives[0].file.parent) == archives


@pytest.mark.parametrize("name", KINDS)
def test_a_restored_stream_is_the_same_in_three_copies(
    name: str, old: Grove, new: Grove, restored: tuple[Archive, ...]
) -> None:
    async def run() -> None:
        async with at(old) as (before, was), at(new) as (after, now):
            assert await everything(now, name) == await everything(was, name)
            assert await raw_config(after, name) == {**await raw_config(before, name), "num_replicas": 3}
            found = await holdings.held(after, name)
            assert replace(found, copies=1) == await holdings.held(before, name)
            assert found.copies == 3

    asyncio.run(run())


def test_the_positions_are_those_of_readers_in_the_middle(restored: tuple[Archive, ...]) -> None:
    spans = {name: span.after for each in restored for name, span in each.consumers.items()}

    assert (spans["still"].delivered, spans["still"].pending) == (0, COUNT - 4)
    assert (spans["pull"].unacknowledged, spans["one"].unacknowledged, spans["other"].pending) == (
        15,
        40,
        220,
    )
    assert (spans["push"].redelivered, spans["push"].unacknowledged) == (1, COUNT - 4 - 7)


def test_keys_and_objects_read_the_same(new: Grove, restored: tuple[Archive, ...]) -> None:
    async def run() -> None:
        async with at(new) as (_, stream):
            keys = await stream.key_value("keys")
            assert [each.value for each in await keys.history("0")] == [
                f"value {k}".encode() for k in (12, 18, 24, 30, 36)
            ]
            assert [each.operation for each in await keys.history("1")][-1] == "DEL"
            assert [each.operation for each in await keys.history("2")] == ["PURGE"]
            assert (await (await stream.object_store("attic")).get("leaf")).data == OBJECT

    asyncio.run(run())


def test_after_a_rolling_restart_readers_go_on_and_what_was_written_is_not_written_again(
    new: Grove, restored: tuple[Archive, ...]
) -> None:
    """A restored leader knows no ids of messages until it has read its stream anew."""
    for name in new.names:
        new.machine(name).stop(NATS)
        new.start([name])
        new.wait_formed()

    async def run() -> None:
        async with at(new) as (_, stream):
            for name in ("deep", "work", "wanted", "quick"):
                for k in (COUNT // 2, COUNT - 1):
                    again = await insist(
                        lambda name=name, k=k: stream.publish(  # type: ignore[misc]
                            f"{name}.{k % 7}", b"again", headers={"Nats-Msg-Id": f"{name}-{k}"}
                        )
                    )
                    assert again.duplicate, f"{name} has {k} twice"
            given = await read_all(stream, "work", "work")
            assert sorted(given) == sorted(f"work {k}" for k in range(20, COUNT))
            await insist(lambda: is_empty(stream, "work"))
            given = await read_all(stream, "deep", "pull")
            assert len(given) == len(set(given)) == COUNT - 4 - 25

    asyncio.run(run())


async def insist(request: Callable[[], Awaitable[Any]]) -> Any:
    for _ in range(200):
        try:
            return await request()
        except (nats.errors.Error, TimeoutError):
            await asyncio.sleep(0.05)
    return await request()


async def is_empty(stream: JetStreamContext, name: str) -> None:
    """Fail unless it is; what is acknowledged goes a moment later."""
    if (await stream.stream_info(name)).state.messages:
        raise nats.errors.TimeoutError


async def read_all(stream: JetStreamContext, name: str, reader: str) -> list[str]:
    """Take and acknowledge all that *reader* has not acknowledged."""
    given: list[str] = []
    pull = await stream.pull_subscribe_bind(reader, name)
    while True:
        info = await insist(lambda: stream.consumer_info(name, reader))
        if not (info.num_pending or info.num_ack_pending):
            return given
        with contextlib.suppress(nats.errors.TimeoutError):
            for message in await pull.fetch(50, timeout=1):
                given.append(message.data[: len(message.data) // 20].decode())
                await insist(message.ack_sync)


def test_an_archive_that_was_changed_or_cut_is_not_restored(
    new: Grove, archives: tuple[Archive, ...], tmp_path: Path
) -> None:
    content = archives[0].file.read_bytes()
    copy = replace(archives[0], file=tmp_path / "copy", config={**archives[0].config, "name": "copy"})

    async def run() -> list[str]:
        async with connected(new.urls()) as client:
            for damaged in (content[:-1], b"x" + content[1:]):
                copy.file.write_bytes(damaged)
                with pytest.raises(MachineError, match="is not what was written there"):
                    await archive.restore(client, copy, 3)
            return await stream_names(client)

    assert "copy" not in asyncio.run(run())


def test_what_was_not_finished_is_no_archive(old: Grove, tmp_path: Path) -> None:
    """Killed before the manifest, or while an earlier archive is written anew."""
    saved = save_all(old, tmp_path)
    (tmp_path / "0.new").write_bytes(b"half")
    saved[0].file.with_suffix(".json").unlink()

    assert archive.saved(tmp_path) == saved[1:]


def test_a_stream_that_is_there_already_is_left_alone(new: Grove, restored: tuple[Archive, ...]) -> None:
    async def run() -> None:
        async with connected(new.urls()) as client:
            with pytest.raises(RefusedError, match="has a stream KV_keys already"):
                await archive.restore(client, restored[0], 3)
            await archive.check_restored(client, restored[:1], 3)

    assert restored[0].stream == "KV_keys"
    asyncio.run(run())


def test_a_difference_is_told(new: Grove, restored: tuple[Archive, ...]) -> None:
    lacking = replace(restored[0], state={**restored[0].state, "messages": 1, "last_seq": 7})

    async def run() -> None:
        async with connected(new.urls()) as client:
            with pytest.raises(NotReadyError, match=r"KV_keys .* last seen: messages .* instead of 1, last "):
                await archive.check_restored(client, (lacking,), 3, timeout=0.5)

    asyncio.run(run())


def test_a_stream_that_the_server_does_not_have_leaves_nothing(old: Grove, tmp_path: Path) -> None:
    async def run() -> None:
        async with connected(old.urls()) as client:
            with pytest.raises(ApiError, match="stream not found"):
                await archive.save(client, "none", tmp_path)

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_that_has_no_leader_yet_is_asked_again(
    plant: Planter, archives: tuple[Archive, ...]
) -> None:
    grove = plant(1, 2, 3)
    first, *others = grove.names
    grove.start([first])

    async def run() -> None:
        async with connected(grove.urls([first])) as client:
            restoring = asyncio.create_task(archive.restore(client, archives[0], 3))
            await asyncio.sleep(0.5)
            await asyncio.to_thread(grove.start, others)
            await restoring
            await archive.check_restored(client, archives[:1], 3)

    asyncio.run(run())


def test_hundreds_of_streams_and_readers_are_listed(plant: Planter) -> None:
    grove = plant(1)
    grove.start()
    grove.wait_formed()

    async def run() -> None:
        async with at(grove) as (client, stream):
            for k in range(300):
                await stream.add_stream(name=f"s{k}", subjects=[f"s{k}"], storage=StorageType.MEMORY)
                await stream.add_consumer("s0", ConsumerConfig(durable_name=f"c{k}"))
            assert len(await holdings.streams(client)) == 300
            assert len(await holdings.positions(client, "s0")) == 300

    asyncio.run(run())


def test_a_stream_that_gives_no_answer_is_not_passed_over(plant: Planter) -> None:
    grove = plant(1, 2, 3)
    grove.start()
    leader = grove.wait_formed().leader
    away = next(name for name in grove.names if name != leader)

    async def run() -> None:
        async with connected([grove.urls([leader])[0]]) as client:
            config = {"name": "lone", "subjects": ["lone"], "placement": {"tags": [away]}}
            await insist(lambda: api(client, "$JS.API.STREAM.CREATE.lone", config, timeout=5))
            grove.kill(away)
            with pytest.raises(RefusedError, match="The streams lone give no answer"):
                await holdings.streams(client)

    asyncio.run(run())


@pytest.fixture
def bare(nats_server: str) -> Iterator[str]:
    """The address of a server without JetStream, in whose place a test may speak."""
    port = free_ports().client
    with subprocess.Popen([nats_server, "-a", "127.0.0.1", "-p", str(port), "-l", os.devnull]) as server:
        try:
            wait_for(lambda: is_listening(port), bool)
            yield f"nats://127.0.0.1:{port}"
        finally:
            server.terminate()


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_that_breaks_off_leaves_no_archive(bare: str, tmp_path: Path) -> None:
    """What it sends is wrong in each way that the protocol knows."""
    whole = [(b"one", "ack.1"), (b"two", "ack.2"), (b"", "")]
    status = {"Status": "408"}
    wrong: list[tuple[list[tuple[bytes, str]], dict[str, str] | None, str]] = [
        ([whole[0], (b"three", "ack.3"), whole[2]], None, "part 3 came after part 1"),
        (whole, status, "the server said 408"),
        (whole[:2], None, "nothing came for"),
    ]

    async def run() -> None:
        async with connected([bare]) as other, connected([bare]) as client:
            parts: list[tuple[bytes, str]] = []
            headers: dict[str, str] | None = None

            async def answer(request: Msg) -> None:
                inbox = json.loads(request.data)["deliver_subject"]
                await request.respond(json.dumps({"config": {"name": "told"}, "state": {}}).encode())
                for data, reply in parts:
                    await other.publish(inbox, data, reply=reply, headers=None if data else headers)

            await other.subscribe("$JS.API.STREAM.SNAPSHOT.told", cb=answer)
            await other.subscribe("$JS.API.CONSUMER.LIST.told", cb=say(b"{}"))
            await other.flush()
            for sent, ended, words in wrong:
                parts, headers = sent, ended
                with pytest.raises(UnreachableError, match=words):
                    await archive.save(client, "told", tmp_path)
            assert archive.saved(tmp_path) == ()
            parts, headers = whole, {"Status": "204"}
            archive.check_whole(await archive.save(client, "told", tmp_path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "CHUNK_TIMEOUT", 0.5)
        asyncio.run(run())
    assert [each.name[-7:] for each in tmp_path.iterdir() if each.suffix != ".json"] == [".stream"]
    assert archive.saved(tmp_path)[0].file.read_bytes() == b"onetwo"


def say(words: bytes) -> Callable[[Msg], Awaitable[None]]:
    async def answer(request: Msg) -> None:
        await request.respond(words)

    return answer


def test_only_the_first_part_is_sent_again(old: Grove) -> None:
    """Nobody listens yet: nothing was delivered. Later that means that whoever took the parts is gone."""

    async def run() -> None:
        async with at(old) as (other, _), connected(old.urls()) as client:

            async def come_late() -> None:
                await asyncio.sleep(0.3)
                await other.subscribe("late", cb=say(b""))
                await other.flush()

            late = asyncio.create_task(come_late())
            assert await archive._sent(client, "oak", "late", b"part", patient=True) == {}
            await late
            with pytest.raises(UnreachableError, match="nobody takes its parts"):
                await archive._sent(client, "oak", "later", b"part", patient=False)

    asyncio.run(run())


PATIENT = [
    {
        "error": {
            "code": 400,
            "err_code": 10005,
            "description": "no suitable peers for placement, peer offline",
        }
    },
    {"error": {"code": 503, "err_code": 10008, "description": "JetStream system temporarily unavailable"}},
    {"error": {"code": 400, "err_code": 10130, "description": "stream name already in use, cannot restore"}},
    {"deliver_subject": "here"},
]


def test_a_cluster_without_a_place_is_asked_again_and_its_last_word_counts(
    bare: str, archives: tuple[Archive, ...]
) -> None:
    """A request without an answer may have begun something: that goes, or its name would stay taken."""
    asked: list[str] = []
    taken: list[bytes] = []
    last = {"error": {"code": 500, "err_code": 10062, "description": "restore failed"}}

    async def run() -> None:
        async with connected([bare]) as other, connected([bare]) as client:

            async def answer(request: Msg) -> None:
                asked.append(request.subject.split(".")[3])
                told = PATIENT[asked.count("RESTORE") - 1] if asked[-1] == "RESTORE" else {"success": True}
                await request.respond(json.dumps(told).encode())

            async def take_part(request: Msg) -> None:
                taken.append(request.data)
                await request.respond(b"" if request.data else json.dumps(last).encode())

            await other.subscribe("$JS.API.STREAM.*.*", cb=answer)
            await other.subscribe("here", cb=take_part)
            await other.flush()
            with pytest.raises(ApiError, match=r"restore failed \(10062\)"):
                await archive.restore(client, archives[0], 3)

    asyncio.run(run())
    assert asked == ["RESTORE", "RESTORE", "RESTORE", "DELETE", "RESTORE"]
    assert b"".join(taken) == archives[0].file.read_bytes()
