"""Streams of every kind are saved from one server and restored in a cluster of three: they are the same."""

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import nats
import nats.errors
import nats.js.errors
import pytest
from nats.js.client import JetStreamContext

from morpheus.machine import NATS
from morpheus.nats import archive, holdings
from morpheus.nats.admin import api, connected
from morpheus.nats.archive import Archive
from tests.nats.grove import Grove
from tests.nats.kinds import COUNT, KINDS, OBJECT, READERS, at, everything, insist, raw_config


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


def test_what_single_servers_alone_have_and_what_others_count_otherwise_is_moved(
    old: Grove, new: Grove, restored: tuple[Archive, ...], tmp_path: Path
) -> None:
    """A stream that writes later than it says, with a reader that began at the last message per subject."""
    reader = {"durable_name": "last", "deliver_policy": "last_per_subject", "filter_subjects": ["swift.0"]}
    swift = {"name": "swift", "subjects": ["swift.*"], "persist_mode": "async"}

    async def run() -> None:
        async with connected(old.urls()) as source, connected(new.urls()) as target:
            await api(source, "$JS.API.STREAM.CREATE.swift", swift)
            created = {"stream_name": "swift", "config": {**reader, "ack_policy": "explicit"}}
            await api(source, "$JS.API.CONSUMER.DURABLE.CREATE.swift.last", created)
            try:
                for _ in range(9):
                    await source.request("swift.0")
                kept = await archive.save(source, "swift", tmp_path)
                await archive.restore(target, kept, 3)
                await archive.check_restored(target, [kept], 3)
            finally:
                for client in (source, target):
                    await archive.delete(client, "swift")

    asyncio.run(run())


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
