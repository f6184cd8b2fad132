"""What befalls a forest that stands: lines that are cut between its nodes, and a disk that is full."""

import threading

import pytest
from nats.aio.client import Client

from morpheus.errors import MachineError, UnreachableError
from morpheus.machine import places
from tasks.machines import install, make_host_key, take_host_key
from tests.hosts.forests.stands import SOON, Stand, on
from tests.hosts.forests.test_births import at_birth
from tests.hosts.forests.test_power import filled, is_whole, publishing
from tests.lab import Host
from tests.lab.commands import until
from tests.nats.grove import wait_for

pytestmark = pytest.mark.root


def test_a_node_that_the_others_do_not_reach_is_told_of_and_comes_back(new: Stand) -> None:
    one, other, lost = new.hosts
    stream = filled(one, 1)

    with publishing(one, stream):
        for host in (one, other):
            new.lab.partition(host.name, lost.name)
        told = wait_for(lambda: new.status.formation, lambda seen: not seen.formed, SOON)
    new.lab.heal()

    assert told.states[lost.name] != "current"
    assert lost.name in told.reason
    is_whole(new, stream)


async def publish(client: Client) -> None:
    await client.jetstream(timeout=2).publish("kept", b"x" * 10_000)


async def keep(client: Client) -> None:
    await client.jetstream().add_stream(name="KEPT", subjects=["kept"])
    await publish(client)


async def kept(client: Client) -> int:
    return (await client.jetstream().stream_info("KEPT")).state.messages


def test_a_full_disk_is_told_of_and_planting_again_goes_on_once_there_is_room(stand: Stand) -> None:
    stand.plant(nodes=1)
    (host,) = stand.hosts
    on(host, keep)
    host.fill_disk()

    with pytest.raises(TimeoutError):
        on(host, publish)
    told = stand.status.formation
    with pytest.raises(MachineError, match="No space left on device") as full:
        stand.plant()

    assert not told.formed
    assert "oak-node-1 is unhealthy (JetStream stream 'APP > KEPT' write error: " in told.reason
    assert "no space left on device" in told.reason
    assert str(full.value).startswith(f"Cannot write {places.AUTHORITY} on oak-node-1: ")
    assert len(stand.simulator.servers) == 1

    host.free_disk()
    stand.plant()

    assert stand.status.formation.formed
    on(host, publish)
    assert on(host, kept) == 2


def test_a_machine_that_dies_while_it_is_equipped_ends_the_plant_and_nothing_is_left(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task in (install, take_host_key, make_host_key):
        monkeypatch.setattr(task, "retries", 0)

    def die(host: Host) -> None:
        arriving = host.disk.root / places.BINARIES[1:]
        until("programs arrive", lambda: arriving.is_dir() and any(arriving.iterdir()), timeout=SOON)
        host.power_cut()

    def later(host: Host) -> None:
        threading.Thread(target=die, args=[host]).start()

    said = "oak-node-1.* (does not answer|was lost)"
    with at_birth(stand.lab, "oak-node-1", act=later), pytest.raises(UnreachableError, match=said):
        stand.plant(nodes=1)

    stand.nothing_remains()
