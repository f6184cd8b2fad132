"""What the servers of the project tell whoever runs their machines, if anybody does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.simulator import catalogue
from tests.simulator.hosts import Birth
from tests.simulator.state import Json, ServerState
from tests.simulator.world import World

PULSE = 0.02  # seconds between two looks at what has come due, while machines depend on it


def tell(world: World, command: str, server: ServerState) -> None:
    """Let a *command* have its effect on the machine of a server."""
    if world.hosts:
        world.hosts.act(command, _birth(world, server))


def enforce(world: World) -> None:
    """Let the rules that count now count for the machines, and see which have switched themselves off."""
    if world.hosts is None:
        return
    for server in world.servers.values():
        world.hosts.guard(server.id, _rules(world, server))
        if server.status == "running" and world.hosts.stopped(server.id):
            server.status, server.started = "off", None


def _rules(world: World, server: ServerState) -> list[Json] | None:
    """The rules of all firewalls that protect a server already; None without any."""
    applied = [number for number, status in server.firewalls.items() if status == "applied"]
    known = [world.firewalls[number] for number in applied if number in world.firewalls]
    return [rule for each in known for rule in each.rules] if known else None


def _birth(world: World, server: ServerState) -> Birth:
    known = [world.ssh_keys[number] for number in server.ssh_keys if number in world.ssh_keys]
    return Birth(
        number=server.id,
        name=server.name,
        image=catalogue.IMAGES[server.image].name,
        ipv6=server.ipv6,
        ipv4=server.ipv4,
        user_data=server.user_data,
        ssh_keys=tuple(each.public_key for each in known),
        root_password=server.root_password,
        location=server.location,
        zone=catalogue.LOCATIONS[server.location].zone,
    )


@contextmanager
def alive(world: World) -> Iterator[None]:
    """Let what has come due happen without anybody looking, as long as there are machines."""
    over = threading.Event()

    def pulse() -> None:
        while not over.wait(PULSE):
            with world.lock:
                world.settle()
                enforce(world)

    thread = threading.Thread(target=pulse, daemon=True)
    if world.hosts:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if world.hosts:
            thread.join()
