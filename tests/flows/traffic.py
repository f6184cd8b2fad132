"""Programs that use a forest while something is done to it, and what they find afterwards.

Publishers write with message ids and count only what was acknowledged; readers take what they are given and
acknowledge it. :meth:`Traffic.check` looks for every acknowledged message, once, and for the positions of
all readers. Errors of single requests are answered as a good client answers them: by asking again.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import (
    AckPolicy,
    ClusterInfo,
    ConsumerConfig,
    ConsumerInfo,
    KeyValueConfig,
    ObjectStoreConfig,
    RetentionPolicy,
    StreamConfig,
)
from nats.js.client import JetStreamContext

from morpheus.forest import Forest
from morpheus.nats.config import client_url

DEEP, WORK, KEYS, ATTIC = "deep", "work", "KV_keys", "attic"
HISTORY, LEAVES = 5, 7  # versions that the bucket keeps of each key, and its keys
PAUSE = 0.004  # seconds between two messages of a publisher
AGAIN = 0.02  # seconds until a request that failed is repeated
AT_ONCE = 200  # messages that are read at once
PATIENCE = 120.0  # seconds until everything has come that is to come
REDELIVERED = 3.0  # seconds after which a reader gets again what it did not acknowledge
UNREAD = 20  # messages that the reader who stands still finds, of which it took and acknowledged some
TAKEN, ACKNOWLEDGED = 9, 5

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Way:
    """How programs come to a forest: to which addresses, what they show there, and where they live."""

    urls: Sequence[str]
    shown: Mapping[str, Any] = field(default_factory=dict)
    place: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext

    @classmethod
    def to(cls, forest: "Forest | Way") -> "Way":
        """To every node of a *forest* of this computer; one that is known already stays as it is."""
        return forest if isinstance(forest, Way) else cls([client_url(node) for node in forest.staying])

    def connected(self) -> AbstractAsyncContextManager[Client]:
        return connection(self.urls, **self.shown)


@dataclass
class Written:
    """What one publisher wrote: the ids that were acknowledged, and the longest time between two of them."""

    ids: list[str] = field(default_factory=list)
    gap: float = 0.0


class Traffic:
    """The programs of one forest; they begin at once, and end with :meth:`stop`."""

    def __init__(self, forest: Forest | Way, *, lone: int = 3, pause: float = PAUSE, copies: int = 3) -> None:
        self._copies = copies
        self._way = Way.to(forest)
        self._lone = [f"lone{k}" for k in range(lone)]
        self._pause = pause
        self._over, self._begun = threading.Event(), threading.Event()
        self._fault: BaseException | None = None
        self.written: dict[str, Written] = {name: Written() for name in (DEEP, WORK, KEYS, *self._lone)}
        self._read: dict[str, Counter[str]] = {name: Counter() for name in ("pull", "push", WORK)}
        self._doubtful: set[str] = set()
        self._objects: dict[str, bytes] = {}
        self._position: tuple[Any, ...] = ()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        with self._way.place():
            self._thread.start()
        assert self._begun.wait(PATIENCE), "the programs never began"
        self.fine()

    def fine(self) -> None:
        """Fail when one of the programs did."""
        if self._fault:
            raise AssertionError("a program failed") from self._fault

    @property
    def gap(self) -> float:
        """The longest time, in seconds, in which one of the publishers got no acknowledgement."""
        return max(each.gap for each in self.written.values())

    def begin_anew(self) -> None:
        """Let the gap be that of what comes now."""
        for each in self.written.values():
            each.gap = 0.0

    @property
    def kept(self) -> Mapping[str, Sequence[str]]:
        """What was acknowledged of the streams in which everything stays, by their names."""
        return {name: self.written[name].ids for name in (DEEP, *self._lone)}

    @property
    def acknowledged(self) -> int:
        return sum(len(each.ids) for each in self.written.values())

    def stop(self) -> None:
        """Have the publishers end with what they are at, and the readers when all was read."""
        self._over.set()
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive(), "the programs never ended"
        self.fine()

    def check(self) -> None:
        """Look for every acknowledged message, once, and for the positions of the readers.

        (What every reader read was looked at when it ended.)
        """
        with self._way.place():
            asyncio.run(self._checked())

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as error:
            self._fault = error
        self._begun.set()

    async def _all(self) -> None:
        async with self._way.connected() as client:
            stream = client.jetstream(timeout=2)
            await self._prepare(stream)
            self._begun.set()
            writers = [self._publish(stream, name) for name in self.written]
            readers = [
                self._pull(stream, DEEP, "pull"),
                self._pull(stream, WORK, WORK),
                self._push(stream, self._lone[0], "push"),
            ]
            await asyncio.gather(*writers, *readers, self._store(stream))

    async def _prepare(self, stream: JetStreamContext) -> None:
        configs = [
            StreamConfig(name=DEEP, subjects=[DEEP], num_replicas=self._copies),
            StreamConfig(
                name=WORK, subjects=[WORK], num_replicas=self._copies, retention=RetentionPolicy.WORK_QUEUE
            ),
            *(StreamConfig(name=name, subjects=[name], num_replicas=1) for name in self._lone),
        ]
        for config in configs:
            await insist(lambda config=config: stream.add_stream(config))  # type: ignore[misc]
        await insist(
            lambda: stream.create_key_value(KeyValueConfig("keys", history=HISTORY, replicas=self._copies))
        )
        await insist(lambda: stream.create_object_store(ATTIC, ObjectStoreConfig(replicas=self._copies)))
        for name, durable in ((DEEP, "pull"), (WORK, WORK), (self._lone[0], "push"), (DEEP, "still")):
            await insist(lambda name=name, durable=durable: add_reader(stream, name, durable))  # type: ignore[misc]
        for k in range(UNREAD):
            await self._write(stream, DEEP, f"{DEEP}-first-{k}")
        still = await stream.pull_subscribe_bind("still", DEEP)
        taken: list[Msg] = []
        while len(taken) < TAKEN:  # one fetch may bring fewer
            taken += await insist(partial(still.fetch, TAKEN - len(taken), timeout=5))
        for message in taken[:ACKNOWLEDGED]:
            await message.ack_sync(timeout=5)
        self._position = position(await insist(lambda: stream.consumer_info(DEEP, "still")))
        assert self._position[2:] == (ACKNOWLEDGED, TAKEN - ACKNOWLEDGED), self._position

    async def _publish(self, stream: JetStreamContext, name: str) -> None:
        last, k = time.monotonic(), 0
        while not self._over.is_set():
            await self._write(stream, name, f"{name}-{k}")
            now = time.monotonic()
            self.written[name].gap = max(self.written[name].gap, now - last)
            last, k = now, k + 1
            await asyncio.sleep(self._pause)

    async def _write(self, stream: JetStreamContext, name: str, message: str) -> None:
        subject = f"$KV.keys.{len(self.written[name].ids) % LEAVES}" if name == KEYS else name
        headers = {"Nats-Msg-Id": message}
        await insist(lambda: stream.publish(subject, message.encode(), timeout=1, headers=headers))
        self.written[name].ids.append(message)

    async def _pull(self, stream: JetStreamContext, name: str, durable: str) -> None:
        reader = await stream.pull_subscribe_bind(durable, name)
        deadline = float("inf")
        while not self._has_all(name, durable):
            if self._over.is_set() and deadline == float("inf"):
                deadline = time.monotonic() + PATIENCE
            assert time.monotonic() < deadline, f"{durable} lacks {self._missing(name, durable)}"
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                for message in await reader.fetch(20, timeout=0.5):
                    await self._acknowledge(message, durable)

    async def _push(self, stream: JetStreamContext, name: str, durable: str) -> None:
        reader = await stream.subscribe_bind(
            name,
            ConsumerConfig(durable_name=durable, deliver_subject=f"give.{durable}"),
            durable,
            manual_ack=True,
        )
        deadline = float("inf")
        while not self._has_all(name, durable):
            if self._over.is_set() and deadline == float("inf"):
                deadline = time.monotonic() + PATIENCE
            assert time.monotonic() < deadline, f"{durable} lacks {self._missing(name, durable)}"
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                await self._acknowledge(await reader.next_msg(timeout=0.5), durable)

    async def _acknowledge(self, message: Msg, durable: str) -> None:
        """Take *message*, and acknowledge it; whether that was heard is doubtful without an answer."""
        self._read[durable][message.data.decode()] += 1
        try:
            await message.ack_sync(timeout=1)
        except (nats.errors.Error, TimeoutError):
            self._doubtful.add(message.data.decode())

    def _missing(self, name: str, durable: str) -> Sequence[str]:
        return sorted({*self.written[name].ids} - {*self._read[durable]})

    def _has_all(self, name: str, durable: str) -> bool:
        return self._over.is_set() and not self._missing(name, durable)

    async def _store(self, stream: JetStreamContext) -> None:
        """Put objects, one after another; each is there when its put has come to an end."""
        attic = await insist(lambda: stream.object_store(ATTIC))
        while not self._over.is_set():
            name, data = f"leaf{len(self._objects)}", os.urandom(200_000)
            await insist(lambda name=name, data=data: attic.put(name, data))  # type: ignore[misc]
            self._objects[name] = data
            await asyncio.sleep(max(0.3, 20 * self._pause))

    async def _checked(self) -> None:
        async with self._way.connected() as client:
            stream = client.jetstream(timeout=5)
            for name, ids in self.kept.items():
                found = Counter(await contents(stream, name))
                lost = [each for each in ids if not found[each]]
                assert not lost, f"{name}: {len(lost)} of {len(ids)} are lost: {lost[:5]}"
                assert {each: n for each, n in found.items() if n > 1} == {}, f"{name} has some twice"
            for durable, times in self._read.items():
                twice = {each for each, n in times.items() if n > 1}
                assert twice <= self._doubtful, f"{durable} got again what it acknowledged"
            still = await insist(lambda: stream.consumer_info(DEEP, "still"))
            assert position(still) == self._position, "the reader that stood still was moved"
            assert still.num_pending == len(self.written[DEEP].ids) - TAKEN
            for name, durable in ((DEEP, "pull"), (WORK, WORK), (self._lone[0], "push")):
                await self._all_read(stream, name, durable)
            await self._keys(stream)
            attic = await insist(lambda: stream.object_store(ATTIC))
            for name, data in self._objects.items():
                assert (await attic.get(name)).data == data, f"the object {name} is another one"

    async def _all_read(self, stream: JetStreamContext, name: str, durable: str) -> None:
        """The reader stands at the end of its stream, once what was in doubt came again."""
        if durable == "push":
            config = ConsumerConfig(durable_name=durable, deliver_subject=f"give.{durable}")
            push = await stream.subscribe_bind(name, config, durable, manual_ack=True)
        else:
            pull = await stream.pull_subscribe_bind(durable, name)
        deadline = time.monotonic() + PATIENCE
        while True:
            info = await insist(lambda: stream.consumer_info(name, durable))
            if not (info.num_pending or info.num_ack_pending):
                return
            assert time.monotonic() < deadline, f"{durable} has more to read: {info}"
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                given = [await push.next_msg(0.5)] if durable == "push" else await pull.fetch(20, timeout=0.5)
                for message in given:
                    await message.ack_sync(timeout=1)
            await asyncio.sleep(0.1)

    async def _keys(self, stream: JetStreamContext) -> None:
        bucket = await insist(lambda: stream.key_value("keys"))
        for k in range(LEAVES):
            put = self.written[KEYS].ids[k::LEAVES]
            entries = await insist(lambda k=k: bucket.history(str(k)))  # type: ignore[misc]
            assert [(each.value or b"").decode() for each in entries] == put[-HISTORY:]


@contextlib.contextmanager
def traffic(
    forest: Forest | Way, *, lone: int = 3, pause: float = PAUSE, copies: int = 3
) -> Iterator[Traffic]:
    """Programs use *forest* while the block runs; afterwards nothing is lost."""
    with used(Traffic(forest, lone=lone, pause=pause, copies=copies)) as programs:
        yield programs
    programs.check()


@contextlib.contextmanager
def used(programs: Traffic) -> Iterator[Traffic]:
    """The *programs* go on while the block runs; they end well."""
    try:
        yield programs
        programs.fine()
    finally:
        programs.stop()
    print(f"{programs.acknowledged} acknowledged; longest gap {programs.gap:.2f} s")


@contextlib.asynccontextmanager
async def connection(urls: Sequence[str], **shown: Any) -> AsyncIterator[Client]:
    """As a program connects that is to last: it tries again for ever, at any node that it hears of."""

    async def quiet(_: Exception) -> None:
        """Requests say themselves what became of them."""

    usual: dict[str, Any] = {"reconnect_time_wait": 0.05, "connect_timeout": 2, "error_cb": quiet}
    client = await nats.connect(list(urls), max_reconnect_attempts=-1, **usual, **shown)
    try:
        yield client
    finally:
        await client.close()


async def insist(request: Callable[[], Awaitable[Answer]]) -> Answer:
    """The answer to *request*, which is made again until there is one."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await request()
        except (nats.errors.Error, TimeoutError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(AGAIN)


async def add_reader(stream: JetStreamContext, name: str, durable: str) -> ConsumerInfo:
    config = ConsumerConfig(
        durable_name=durable,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=3600 if durable == "still" else REDELIVERED,
        deliver_subject=f"give.{durable}" if durable == "push" else None,
    )
    return await stream.add_consumer(name, config)


def position(info: ConsumerInfo) -> tuple[Any, ...]:
    """How far a reader came: what it was given, what it acknowledged, and what it still has."""
    assert info.delivered
    assert info.ack_floor
    return (
        info.delivered.consumer_seq,
        info.delivered.stream_seq,
        info.ack_floor.stream_seq,
        info.num_ack_pending,
    )


async def contents(stream: JetStreamContext, name: str) -> Sequence[str]:
    """The ids of all messages of the stream *name*, in order, as its leader has them."""
    info = await insist(lambda: stream.stream_info(name))
    numbers = range(info.state.first_seq or 1, info.state.last_seq + 1)

    async def at(number: int) -> str:
        message = await insist(lambda: stream.get_msg(name, number))
        return str((message.headers or {})["Nats-Msg-Id"])

    parts = (numbers[k : k + AT_ONCE] for k in range(0, len(numbers), AT_ONCE))
    return [each for part in parts for each in await asyncio.gather(*map(at, part))]


def copies(forest: Forest | Way) -> Mapping[str, frozenset[str]]:
    """The nodes on which each stream stands."""
    way = Way.to(forest)

    async def ask() -> Mapping[str, frozenset[str]]:
        async with way.connected() as client:
            found = await insist(client.jetstream(timeout=5).streams_info)
        return {each.config.name or "": frozenset(_servers(each.cluster)) for each in found}

    with way.place():
        return asyncio.run(ask())


def _servers(cluster: ClusterInfo | None) -> Iterator[str]:
    """The servers of which a stream's leader knows that they have a copy; and itself."""
    if cluster and cluster.leader:
        yield cluster.leader
    for peer in (cluster.replicas if cluster else None) or []:
        if peer.name:
            yield peer.name
