"""Machines that start anew, together or one by one, and those whose power is cut: nothing is lost."""

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from tests.hosts.forests.stands import SOON, Stand, on
from tests.hosts.forests.test_again import own_key, scanned
from tests.lab import Host, Lab
from tests.nats.grove import wait_for

pytestmark = pytest.mark.root


@dataclass
class Stream:
    """A stream with a copy on each node, and what was acknowledged of it."""

    name: str = field(default_factory=lambda: f"KEPT-{uuid.uuid4().hex[:6]}")
    acknowledged: list[str] = field(default_factory=list)

    async def create(self, client: Client) -> None:
        config = StreamConfig(name=self.name, subjects=[self.name], num_replicas=3)
        await client.jetstream().add_stream(config)

    async def publish(self, client: Client, text: str) -> None:
        """Publish until it is acknowledged; the cluster knows it by its id if it comes twice."""
        while True:
            try:
                await client.jetstream(timeout=1).publish(
                    self.name, text.encode(), headers={"Nats-Msg-Id": text}
                )
            except (nats.errors.Error, TimeoutError):
                await asyncio.sleep(0.05)
            else:
                self.acknowledged.append(text)
                return

    async def held(self, client: Client) -> list[str]:
        """All messages, in order."""
        stream = client.jetstream(timeout=5)
        info = await stream.stream_info(self.name)
        numbers = range(info.state.first_seq, info.state.last_seq + 1)
        messages = [await stream.get_msg(self.name, number) for number in numbers]
        return [(message.data or b"").decode() for message in messages]

    async def leader(self, client: Client) -> str:
        cluster = (await client.jetstream(timeout=5).stream_info(self.name)).cluster
        assert cluster
        assert cluster.leader
        return cluster.leader


def filled(host: Host, count: int = 100) -> Stream:
    stream = Stream()

    async def fill(client: Client) -> None:
        await stream.create(client)
        for k in range(count):
            await stream.publish(client, f"message {k}")

    on(host, fill)
    return stream


def is_whole(stand: Stand, stream: Stream) -> None:
    """Wait until the forest is as it was; whichever node is asked has each acknowledged message once."""
    stand.wait_formed()
    for host in stand.hosts:
        assert patiently(partial(on, host, stream.held)) == stream.acknowledged


def patiently(ask: Callable[[], list[str]]) -> list[str]:
    """What *ask* returns once the stream, too, has a leader again."""

    def asked() -> list[str] | None:
        try:
            return ask()
        except (nats.errors.Error, TimeoutError, OSError):
            return None

    return wait_for(asked, lambda answer: answer is not None, SOON) or []


@contextmanager
def publishing(host: Host, stream: Stream) -> Iterator[None]:
    """Publish on *host*, one message after another, while the block runs."""
    over = threading.Event()

    async def work(client: Client) -> None:
        while not over.is_set():
            await stream.publish(client, f"message {len(stream.acknowledged)}")

    always: dict[str, Any] = {"allow_reconnect": True, "max_reconnect_attempts": -1}
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(lambda: on(host, work, **always))
        try:
            count = len(stream.acknowledged)
            wait_for(lambda: len(stream.acknowledged), lambda seen: seen > count + 20)
            yield
            count = len(stream.acknowledged)
            wait_for(lambda: len(stream.acknowledged), lambda seen: seen > count + 20, SOON)
        finally:
            over.set()
        done.result()


def test_each_machine_in_turn_starts_anew_and_is_as_before(lab: Lab, new: Stand) -> None:
    stream = filled(new.hosts[0])

    for host in new.hosts:
        host.reboot()
        new.wait_formed()

    is_whole(new, stream)
    for host in new.hosts:
        assert scanned(lab, host) == {own_key(new, host)}
        assert host.run(["systemctl", "is-system-running", "--wait"]).stdout == "running\n"


def test_all_machines_start_anew_at_once_and_form_their_cluster_by_themselves(either: Stand) -> None:
    stream = filled(either.hosts[0])

    with ThreadPoolExecutor() as pool:
        list(pool.map(Host.reboot, either.hosts))

    is_whole(either, stream)
    active = [host.run(["systemctl", "is-active", "nats", "nimsforest"]).stdout for host in either.hosts]
    assert active == ["active\nactive\n"] * 3


def test_nothing_that_was_acknowledged_is_lost_when_the_power_of_a_leader_is_cut(new: Stand) -> None:
    stream = filled(new.hosts[0], 1)
    leader = new.host(on(new.hosts[0], stream.leader))
    other = next(host for host in new.hosts if host is not leader)

    with publishing(other, stream):
        leader.power_cut()
    with publishing(other, stream):
        leader.boot()

    is_whole(new, stream)


def test_nothing_that_was_acknowledged_is_lost_when_all_power_is_cut(new: Stand) -> None:
    stream = filled(new.hosts[0])

    with ThreadPoolExecutor() as pool:
        list(pool.map(Host.power_cut, new.hosts))
        list(pool.map(Host.boot, new.hosts))

    is_whole(new, stream)
