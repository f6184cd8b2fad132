"""A fence around a real server: nobody writes past it, it lifts itself, and then nothing is closed."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import nats.errors
import pytest

from morpheus.errors import MachineError, OvertakenError, RefusedError
from morpheus.machine import NATS
from morpheus.machine.beside import LIFTS_AFTER, watchman
from morpheus.machine.beside.local import LocalBeside, LocalFence
from morpheus.nats import access, config, listeners
from morpheus.nats.admin import api, connected
from morpheus.nats.config import Entry, Guard
from tests.nats.conftest import Planter
from tests.nats.grove import Grove, wait_for

NAME = "oak-node-1"
SHORT = 1.5  # seconds after which a fence lifts itself here


class Fenced:
    """A forest of one with a stream, and what is needed to fence it."""

    def __init__(self, grove: Grove, lifts_after: float) -> None:
        self.grove, self.machine = grove, grove.machine(NAME)
        self.mover = access.generate()
        self.server = config.server_program(
            grove.binary, grove.node(NAME), self.machine.layout, standalone=True
        )
        self.fence = LocalFence(self.machine, self.server, lifts_after=lifts_after)

    def arm(self) -> None:
        self.fence.arm(self.guarded().encode())

    def guarded(self) -> str:
        guard = Guard(self.mover.app_key, Entry.LISTEN)
        grove, layout = self.grove, self.machine.layout
        node, listen = grove.node(NAME), "127.0.0.1"
        return config.render(grove.forest, node, layout, grove.access, listen=listen, guard=guard).nats

    def written(self, seed: str | None = None) -> bool:
        """Whether a program can write; as who moves the streams with that *seed*."""

        async def write() -> bool:
            async with connected(self.grove.urls(), seed) as client:
                try:
                    answer = await client.request("leaf", b"x", timeout=0.4)
                except (nats.errors.Error, TimeoutError):
                    return False
                return "seq" in json.loads(answer.data)

        return asyncio.run(write())

    def held(self) -> int:
        async def ask() -> int:
            async with connected(self.grove.urls(), self.mover.app_seed) as client:
                return int((await api(client, "$JS.API.STREAM.INFO.leaf"))["state"]["messages"])

        return asyncio.run(ask())

    @property
    def files(self) -> set[str]:
        folder = self.machine.folder / watchman.NAME
        return {each.name for each in folder.iterdir()} if folder.exists() else set()


@pytest.fixture
def fenced(plant: Planter) -> Iterator[Fenced]:
    yield from begin(plant, LIFTS_AFTER)


@pytest.fixture
def brief(plant: Planter) -> Iterator[Fenced]:
    yield from begin(plant, SHORT)


def begin(plant: Planter, lifts_after: float) -> Iterator[Fenced]:
    grove = plant(1)
    grove.start()
    grove.wait_formed()

    async def fill() -> None:
        async with connected(grove.urls()) as client:
            await api(client, "$JS.API.STREAM.CREATE.leaf", {"name": "leaf", "subjects": ["leaf"]}, timeout=5)

    asyncio.run(fill())
    one = Fenced(grove, lifts_after)
    yield one
    one.machine.stop(watchman.NAME)


def test_only_who_moves_the_streams_writes_past_a_fence(fenced: Fenced) -> None:
    assert fenced.written()

    fenced.arm()

    assert not fenced.written()
    assert not fenced.written(fenced.grove.access.app_seed)
    assert fenced.written(fenced.mover.app_seed)
    assert fenced.held() == 2


def test_a_program_that_is_connected_stays_so_and_writes_again_afterwards(fenced: Fenced) -> None:
    async def run() -> None:
        async with connected(fenced.grove.urls()) as client:
            await asyncio.to_thread(fenced.arm)
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                await client.request("leaf", b"x", timeout=0.4)
            assert client.is_connected
            await asyncio.to_thread(fenced.fence.lift)
            for _ in range(50):
                with contextlib.suppress(nats.errors.Error, TimeoutError):
                    answer = await client.request("leaf", b"x", timeout=0.4)
                    assert json.loads(answer.data)["seq"] == 1
                    return
            pytest.fail("it was never let in again")

    asyncio.run(run())
    assert fenced.files == set()
    assert fenced.machine.pid(watchman.NAME) is None


def test_a_fence_that_nobody_renews_lifts_itself_though_its_maker_was_killed(brief: Fenced) -> None:
    """Its maker dies with its whole session, in the middle of waiting."""
    code = (
        "import sys; from pathlib import Path; from morpheus.machine import Program;"
        "from morpheus.machine.beside.local import LocalFence, LocalMachine;"
        "folder, guarded, *argv = sys.argv[1:];"
        "LocalFence(LocalMachine('oak-node-1', Path(folder)), Program('nats', tuple(argv)), "
        f"lifts_after={SHORT}).arm(guarded.encode()); print('armed', flush=True); input()"
    )
    argv = [sys.executable, "-c", code, str(brief.machine.folder), brief.guarded(), *brief.server.argv]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env=os.environ
    ) as maker:
        assert maker.stdout
        assert maker.stdout.readline() == b"armed\n"
        assert not brief.written()
        os.killpg(maker.pid, signal.SIGKILL)

    wait_for(brief.written, bool, timeout=SHORT + 30)


def test_a_fence_that_is_renewed_holds(brief: Fenced) -> None:
    brief.arm()

    deadline = time.monotonic() + 3 * SHORT
    while time.monotonic() < deadline:
        brief.fence.renew()
        assert not brief.written()

    wait_for(brief.written, bool, timeout=SHORT + 30)
    with pytest.raises(OvertakenError, match="was lifted before its streams were moved"):
        brief.fence.renew()


def test_a_server_is_closed_for_good_while_its_fence_holds(brief: Fenced) -> None:
    brief.arm()

    brief.fence.close()

    deadline = time.monotonic() + 2 * SHORT
    while time.monotonic() < deadline:
        assert brief.machine.pid(NATS) is None
        time.sleep(0.02)
    assert brief.machine.pid(watchman.NAME) is None
    assert "armed" not in brief.files


def test_a_server_whose_fence_was_lifted_is_not_closed(brief: Fenced) -> None:
    brief.arm()
    wait_for(brief.written, bool, timeout=SHORT + 30)

    with pytest.raises(OvertakenError):
        brief.fence.close()

    assert brief.written()


def test_who_stalls_while_the_server_stops_does_not_close_it(
    brief: Fenced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is stopped already; the fence lifts itself, and starts it, before that is made final."""
    stop = brief.machine.stop

    def stall(name: str) -> None:
        stop(name)
        wait_for(lambda: brief.machine.pid(NATS), bool, timeout=SHORT + 30)

    brief.arm()
    monkeypatch.setattr(brief.machine, "stop", stall)
    with pytest.raises(OvertakenError):
        brief.fence.close()
    monkeypatch.undo()

    wait_for(lambda: reachable(brief), bool, timeout=30)


def reachable(one: Fenced) -> bool:
    try:
        return one.written()
    except Exception:
        return False


def test_what_was_closed_is_opened_again_by_who_gives_up(fenced: Fenced) -> None:
    fenced.arm()
    fenced.fence.close()

    fenced.fence.lift()
    fenced.fence.lift()

    wait_for(lambda: reachable(fenced), bool, timeout=30)
    assert fenced.files == set()


def test_who_was_overtaken_while_it_was_halted_opens_and_removes_nothing(fenced: Fenced) -> None:
    """Another one has closed the server since."""
    beside = LocalBeside(fenced.machine)
    late = LocalFence(fenced.machine, fenced.server, 4)
    fence = LocalFence(fenced.machine, fenced.server, 5)
    fence.arm(fenced.guarded().encode())
    fence.close()

    for call in (late.lift, lambda: late.arm(fenced.guarded().encode()), lambda: beside.remove(4)):
        with pytest.raises(OvertakenError):
            call()

    assert fenced.machine.pid(NATS) is None
    fence.lift()
    beside.remove(5)
    wait_for(lambda: reachable(fenced), bool, timeout=30)
    assert fenced.files == set()


def test_a_server_that_was_started_anew_is_open_and_not_closed(fenced: Fenced) -> None:
    """A power cut or a crash: the usual configuration stands in its place while the fence holds."""
    fenced.arm()
    fenced.grove.kill(NAME)
    fenced.machine.start(fenced.server)
    wait_for(lambda: reachable(fenced), bool, timeout=30)

    with pytest.raises(OvertakenError):
        fenced.fence.close()

    assert fenced.written()


def test_a_server_that_cannot_read_the_fence_is_as_it_was(fenced: Fenced) -> None:
    before = fenced.machine.read(fenced.machine.layout.config)

    with pytest.raises(MachineError, match=r"cannot be fenced: .*Failed to reload"):
        fenced.fence.arm(fenced.guarded().replace("jetstream {", "jetstream [").encode())

    assert fenced.machine.read(fenced.machine.layout.config) == before
    assert (fenced.files, fenced.machine.pid(watchman.NAME)) == (set(), None)
    assert fenced.written()


def test_killed_between_fence_and_open_configuration_it_still_opens(brief: Fenced) -> None:
    """The maker of a fence died while the configuration of the fence was in its place."""
    brief.arm()
    brief.machine.put(brief.machine.layout.config, brief.guarded().encode())

    wait_for(brief.written, bool, timeout=SHORT + 30)

    assert b"deny" not in (brief.machine.read(brief.machine.layout.config) or b"")


def test_new_servers_let_nobody_else_in(plant: Planter) -> None:
    grove = plant(1)
    mover, layout = access.generate(), grove.machine(NAME).layout
    guard = Guard(mover.app_key, Entry.NONE)
    node = grove.node(NAME)
    text = config.render(grove.forest, node, layout, grove.access, listen="127.0.0.1", guard=guard).nats
    grove.machine(NAME).put(layout.config, text.encode())
    grove.machine(NAME).put(layout.cluster, b"")
    grove.machine(NAME).start(config.server_program(grove.binary, node, layout, standalone=True))
    grove.wait_formed()

    async def enters(seed: str | None) -> bool:
        try:
            async with connected(grove.urls(), seed) as client:
                return (await api(client, "$JS.API.INFO")) is not None
        except Exception:
            return False

    assert asyncio.run(enters(mover.app_seed))
    assert not asyncio.run(enters(None))
    assert not asyncio.run(enters(grove.access.app_seed))


def test_who_lifts_a_fence_may_be_killed_in_the_middle(brief: Fenced) -> None:
    brief.arm()
    folder = brief.machine.folder

    (folder / watchman.ARMED).rename(folder / watchman.LIFTED)

    wait_for(brief.written, bool, timeout=30)


def test_where_nothing_can_be_written_any_more_a_fence_is_lifted(fenced: Fenced) -> None:
    fenced.arm()
    most, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        watchman.lift(fenced.machine.folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))

    wait_for(fenced.written, bool, timeout=30)


def test_who_lifts_a_fence_does_not_give_up(brief: Fenced) -> None:
    """What it needs cannot be read at first."""
    brief.arm()
    config = brief.machine.folder / watchman.OPEN
    usual = config.read_bytes()
    config.unlink()
    config.mkdir()
    log = brief.machine.folder / f"{watchman.NAME}.out"
    wait_for(lambda: log.exists() and "Is a directory" in log.read_text(), bool, timeout=SHORT + 30)

    config.rmdir()
    config.write_bytes(usual)

    wait_for(brief.written, bool, timeout=30)


def test_a_fence_that_was_left_is_lifted_before_another_is_made(fenced: Fenced) -> None:
    """The first was left with its configuration in the place of the usual one."""
    before = fenced.machine.read(fenced.machine.layout.config)
    fenced.arm()
    fenced.machine.put(fenced.machine.layout.config, fenced.guarded().encode())

    fenced.arm()

    assert not fenced.written()
    assert fenced.machine.read(fenced.machine.layout.config) == before
    fenced.fence.lift()
    wait_for(fenced.written, bool, timeout=30)


@pytest.mark.parametrize(("entry", "denied"), [(Entry.LISTEN, 2), (Entry.NONE, 0)])
def test_programs_with_a_password_are_kept_out_as_well(plant: Planter, entry: Entry, denied: int) -> None:
    grove = plant(1)
    heard = listeners.Listeners("::", "::1", "::1", tls=listeners.Tls(), password="x", lets_in=False)
    text = config.compose(
        *(grove.forest, grove.node(NAME), grove.machine(NAME).layout, grove.access, heard),
        Guard("U", entry),
    ).nats

    users = [line for line in text.splitlines() if grove.access.app_key in line or 'user: "app"' in line]
    assert len(users) == denied
    assert all('permissions: { publish: { deny: ">" } }' in line for line in users)
    assert "no_auth_user" not in text


@pytest.mark.parametrize("entry", Entry)
def test_a_server_that_leaf_nodes_come_to_is_not_guarded(plant: Planter, entry: Entry) -> None:
    grove = plant(1)
    heard = listeners.Listeners("::", "::1", "::1", leafnode="::", tls=listeners.Tls(), password="x")

    with pytest.raises(RefusedError, match="Leaf nodes may come to oak-node-1"):
        config.compose(
            *(grove.forest, grove.node(NAME), grove.machine(NAME).layout, grove.access, heard),
            Guard("U", entry),
        )
