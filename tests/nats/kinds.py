"""Streams of every kind with readers in the middle of them, as archives are made of."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
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

from morpheus.nats import archive, holdings
from morpheus.nats.admin import api, connected
from morpheus.nats.archive import Archive
from tests.nats.grove import Grove

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


async def insist(request: Callable[[], Awaitable[Any]]) -> Any:
    for _ in range(200):
        try:
            return await request()
        except (nats.errors.Error, TimeoutError):
            await asyncio.sleep(0.05)
    return await request()
