"""The fence around the server of a machine: nobody writes past it, and nothing stays closed."""

import asyncio
import contextlib
import json
from collections.abc import Iterator

import nats.errors
import pytest
from nats.aio.client import Client

from flows import _migration
from flows._raising import Kit
from flows.teardown import open_home
from morpheus import settings as config
from morpheus.cli.temporary import Temporary
from morpheus.errors import MachineError, OvertakenError
from morpheus.machine import NATS, places
from morpheus.machine.beside.over_ssh import WATCHMAN, SshBeside, SshFence
from morpheus.nats import access
from morpheus.nats.config import Entry, Guard
from morpheus.watch import machine_of, server_of
from tests.hosts.forests.stands import SOON, Stand, on, standing
from tests.lab import Host, Lab
from tests.nats.grove import wait_for

pytestmark = pytest.mark.root

SHORT = 3.0  # seconds after which a fence lifts itself here


class Fenced:
    """A forest of one with a stream, and a fence around its server."""

    def __init__(self, stand: Stand) -> None:
        settings, forest = config.load(), stand.forest
        cloud, _ = open_home(settings, "oak", "settings", "settings")
        entered, outfit = Kit.of(cloud, settings, "settings", "settings").opened(forest)
        assert outfit
        node = forest.nodes[0]
        self.host: Host = stand.host(node.name)
        self.machine = machine_of(node, entered)
        self.mover = access.generate()
        guard = Guard(self.mover.app_key, Entry.LISTEN)
        self.guarded = _migration.guarded(forest, node, entered, outfit, guard).content
        beside = entered.beside(server_of(node))
        assert isinstance(beside, SshBeside)
        self.fence: SshFence = beside.fence(outfit.server(forest, node, self.machine.layout), SHORT)

    def written(self, seed: str | None = None) -> bool:
        """Whether a program beside the server can write."""

        async def write(client: Client) -> bool:
            answer = await client.request("leaf", b"x", timeout=0.4)
            return "seq" in json.loads(answer.data)

        try:
            return on(self.host, write, nkeys_seed_str=seed)
        except (nats.errors.Error, TimeoutError, OSError):
            return False

    def is_open(self) -> bool:
        """Whether it comes to be so in time."""
        return wait_for(self.written, bool, timeout=SOON)

    @property
    def usual(self) -> bytes | None:
        return self.machine.read(places.LAYOUT.config)

    def watchman(self) -> str:
        return self.host.run(["systemctl", "is-active", WATCHMAN]).stdout.strip()


@pytest.fixture(scope="module")
def one(lab: Lab, prefect: Temporary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fenced]:
    """These tests leave it open."""
    with standing(lab, tmp_path_factory.mktemp("one") / "home", 12, 1, {}) as stand:
        fenced = Fenced(stand)

        async def fill(client: Client) -> None:
            await client.jetstream().add_stream(name="leaf", subjects=["leaf"])

        on(fenced.host, fill)
        yield fenced


def test_only_who_moves_the_streams_writes_past_it(one: Fenced) -> None:
    before = one.usual

    one.fence.arm(one.guarded)

    assert not one.written()
    assert one.written(one.mover.app_seed)
    assert one.usual == before
    one.fence.lift()
    assert one.is_open()
    assert one.watchman() == "inactive"


def test_one_that_nobody_renews_lifts_itself(one: Fenced) -> None:
    one.fence.arm(one.guarded)
    for _ in range(int(2 * SHORT / 0.1)):
        one.fence.renew()
        asyncio.run(asyncio.sleep(0.1))
    assert not one.written()

    assert one.is_open()

    with pytest.raises(OvertakenError, match="was lifted before its streams were moved"):
        one.fence.close()
    assert one.is_open()


def test_a_server_is_closed_for_good_while_it_holds_and_opened_again_by_who_gives_up(one: Fenced) -> None:
    one.fence.arm(one.guarded)

    one.fence.close()
    one.fence.close()

    assert one.watchman() == "inactive"
    assert one.machine.pid(NATS) is None
    one.host.reboot()
    one.machine.enter(SOON)
    assert one.machine.pid(NATS) is None
    one.fence.lift()
    one.fence.lift()
    assert one.is_open()
    assert one.host.run(["systemctl", "is-enabled", places.UNITS[NATS]]).stdout == "enabled\n"


def test_a_machine_that_starts_anew_with_the_wrong_configuration_opens_itself(one: Fenced) -> None:
    """The power was cut between the configuration of the fence and the usual one."""
    before = one.usual
    one.fence.arm(one.guarded)
    one.machine.put(places.LAYOUT.config, one.guarded, mode=0o640)

    one.host.reboot()
    one.machine.enter(SOON)

    assert one.is_open()
    assert one.usual == before
    with pytest.raises(OvertakenError):
        one.fence.close()
    assert one.is_open()


@contextlib.contextmanager
def mounted(one: Fenced, *how: str) -> Iterator[None]:
    """Something is mounted while the block runs; the last word of *how* says where."""
    assert one.host.run(["mount", *how]).returncode == 0
    try:
        yield
    finally:
        one.host.run(["umount", "--lazy", how[-1]])


def test_a_full_disk_leaves_nothing_closed_whatever_is_the_first_that_it_has_no_room_for(one: Fenced) -> None:
    before, failed = one.usual, 0
    one.host.run(["mkdir", "-p", places.FENCE])
    for pages in range(2, 10):
        with mounted(one, "-t", "tmpfs", "-o", f"size={4 * pages}k", "tmpfs", places.FENCE):
            try:
                one.fence.arm(one.guarded)
            except MachineError:
                failed += 1
            else:
                one.fence.lift()
                assert failed
                return
            assert one.usual == before
            assert one.written(), f"closed with {pages} pages"
            assert one.watchman() == "inactive"
    pytest.fail("there never was room enough")


def test_where_nothing_can_be_written_any_more_it_is_lifted(one: Fenced) -> None:
    one.fence.arm(one.guarded)

    with mounted(one, "--bind", places.SETTINGS, places.SETTINGS):
        one.host.run(["mount", "-o", "remount,bind,ro", places.SETTINGS])
        one.fence.lift()

        assert one.is_open()


def test_a_server_that_cannot_read_it_is_as_it_was(one: Fenced) -> None:
    before = one.usual

    with pytest.raises(MachineError, match=r"Cannot arm the fence on oak-node-1.*Failed to reload"):
        one.fence.arm(one.guarded.replace(b"jetstream {", b"jetstream ["))

    assert one.usual == before
    assert one.written()
    assert one.watchman() == "inactive"
