"""What is wrong with an archive, a server or a cluster is told, and leaves nothing half done."""

import asyncio
import functools
import itertools
import json
import os
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from nats.js.api import (
    ConsumerConfig,
    StorageType,
)

from morpheus.errors import MachineError, NotReadyError, RefusedError, UnreachableError
from morpheus.nats import archive, beat, holdings
from morpheus.nats.admin import ApiError, api, connected, stream_names
from morpheus.nats.archive import Archive
from tests.machine.conftest import free_ports
from tests.nats.conftest import Planter
from tests.nats.grove import Grove, wait_for
from tests.nats.kinds import at, insist, save_all
from tests.nats.listening import listening


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
            heard = grove.ask(first, "/varz")["in_msgs"]
            restoring = asyncio.create_task(archive.restore(client, archives[0], 3))
            asked = functools.partial(wait_for, lambda: grove.ask(first, "/varz")["in_msgs"])
            await asyncio.to_thread(asked, lambda now: now > heard)  # in vain
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
            await listening(other)
            await insist(lambda: client.request("$JS.API.CONSUMER.LIST.told"))
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


def test_who_waits_for_a_server_that_looks_through_a_large_stream_shows_that_it_goes_on(
    bare: str, tmp_path: Path
) -> None:
    beats = itertools.count(1)

    async def run() -> None:
        enough = asyncio.Event()

        def count() -> None:
            if next(beats) >= 4:
                enough.set()

        async with connected([bare]) as other, connected([bare]) as client:

            async def answer(request: Msg) -> None:
                await enough.wait()
                await request.respond(json.dumps({"config": {"name": "large"}, "state": {}}).encode())
                await other.publish(json.loads(request.data)["deliver_subject"], b"")

            await other.subscribe("$JS.API.STREAM.SNAPSHOT.large", cb=answer)
            await other.subscribe("$JS.API.CONSUMER.LIST.large", cb=say(b"{}"))
            await listening(other)
            await archive.save(client, "large", tmp_path, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beat, "EVERY", 0.1)
        patch.setattr(archive, "BEGIN_TIMEOUT", 5.0)  # after which who does not go on has failed
        asyncio.run(run())


def test_each_of_many_streams_is_waited_for(bare: str, tmp_path: Path) -> None:
    """Together they take longer than one may."""
    kept = [
        Archive(tmp_path / name, 0, "", {"name": name}, {"messages": 5}, {})
        for name in ("one", "two", "three")
    ]
    asked: dict[str, float] = {}

    async def run() -> None:
        async with connected([bare]) as other, connected([bare]) as client:

            async def answer(request: Msg) -> None:
                first = asked.setdefault(request.subject, time.monotonic())
                messages = 5 if time.monotonic() - first > 0.6 else 0
                await request.respond(json.dumps({"state": {"messages": messages}}).encode())

            await other.subscribe("$JS.API.STREAM.INFO.*", cb=answer)
            await listening(other)
            await archive.check_restored(client, kept, 1, timeout=1)

    asyncio.run(run())
    assert len(asked) == 3


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
                await listening(other)

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
            await listening(other)
            with pytest.raises(ApiError, match=r"restore failed \(10062\)"):
                await archive.restore(client, archives[0], 3)

    asyncio.run(run())
    assert asked == ["RESTORE", "RESTORE", "RESTORE", "DELETE", "RESTORE"]
    assert b"".join(taken) == archives[0].file.read_bytes()
