"""A model of the world for plans: what is recorded, what exists, whom the cluster counts."""

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from morpheus.cloud import Server
from morpheus.forest import Forest
from morpheus.machine import StoreState
from morpheus.plan import (
    Sight,
    Step,
    Verb,
    Wanted,
    activated,
    addressed,
    plan_plant,
    replaced,
    reserve,
    subjects,
)
from tests.morpheus.documents import NOON

WRITTEN_TOGETHER = (Verb.RETIRE, Verb.RESERVE)
Act = tuple[Step, ...]


@dataclass
class Machine:
    """A server of the model: what is in its store, and whether NATS runs."""

    store: StoreState = StoreState.FRESH
    running: bool = False


@dataclass
class World:
    """What is recorded, what exists, and whom the cluster counts. It objects to what would do harm."""

    forest: Forest | None
    machines: dict[str, Machine] = field(default_factory=dict)
    peers: set[str] = field(default_factory=set)
    started: set[str] = field(default_factory=set)

    def seen(self) -> dict[str, Sight]:
        return {name: Sight(each.store, running=each.running) for name, each in self.machines.items()}

    def plan(self) -> list[Act]:
        """The steps to a planted forest, those that are one write taken together."""
        assert self.forest
        return acts(plan_plant(self.forest, self.seen()))

    def lose(self, *names: str) -> None:
        """The machines *names* vanish with all they hold."""
        for name in names:
            del self.machines[name]

    def stop(self, *names: str) -> None:
        for name in names:
            self.machines[name].running = False

    def apply(self, act: Act) -> None:
        if act[0].verb in WRITTEN_TOGETHER:
            assert self.forest
            gone, fresh = subjects(act, Verb.RETIRE), subjects(act, Verb.RESERVE)
            self.forest = replaced(self.forest, gone, fresh, (), "run", NOON)
            return
        (step,) = act
        getattr(self, f"_{step.verb.name.lower()}")(step.subject)

    def _revive(self, name: str) -> None:
        self.machines.setdefault(name, Machine())

    def _create(self, name: str) -> None:
        assert name not in self.started, f"{name} is created again"
        self.machines.setdefault(name, Machine())

    def _record(self, name: str) -> None:
        assert self.forest
        self.forest = addressed(self.forest, [Server(name, f"2001:db8::{name[-1]}", {})])

    def _configure(self, name: str) -> None:
        assert name in self.machines

    def _start(self, name: str) -> None:
        machine = self.machines[name]
        assert self.forest
        assert self.forest.node(name).ip, f"{name} starts unrecorded"
        assert machine.store is StoreState.HELD or name not in self.started, (
            f"{name} starts without its store"
        )
        machine.store, machine.running = StoreState.HELD, True
        self.started.add(name)
        self.peers.add(name)

    def _remove_peer(self, name: str) -> None:
        voters = {each for each in self.peers if each in self.machines and self.machines[each].running}
        assert 2 * len(voters) > len(self.peers), "without a majority no peer can be removed"
        self.peers.discard(name)

    def _delete(self, name: str) -> None:
        assert self.forest
        assert self.forest.node(name).leaving, f"{name} is deleted before it is recorded as leaving"
        self.machines.pop(name, None)

    def _drop(self, name: str) -> None:
        assert self.forest
        assert name not in self.machines, f"{name} is forgotten while it exists"
        self.forest = self.forest.without(name)

    def _verify(self, name: str) -> None:
        assert self.forest
        living = {name for name, machine in self.machines.items() if machine.running}
        assert living == self.peers == {node.name for node in self.forest.staying}

    def _activate(self, name: str) -> None:
        assert self.forest
        self.forest = activated(self.forest)

    def _forget(self, name: str) -> None:
        assert not self.machines, "machines are left behind"
        self.forest = None


def acts(steps: tuple[Step, ...]) -> list[Act]:
    """The steps, one by one, but those of one write together."""
    return [
        tuple(group)
        for _, group in itertools.groupby(steps, lambda step: step.verb in WRITTEN_TOGETHER or step)
    ]


def wanted(nodes: int | None = None, **other: str) -> Wanted:
    return Wanted("oak", nodes, other.get("provider", "local"), registry_url="file:///r.json", run="run")


def unplanted(nodes: int) -> World:
    return World(reserve(None, wanted(nodes), NOON))


def planted(nodes: int) -> World:
    world = unplanted(nodes)
    for act in world.plan():
        world.apply(act)
    return world


def names(*numbers: int) -> tuple[str, ...]:
    return tuple(f"oak-node-{k}" for k in numbers)


# How many nodes, how many of them lost, and how many of the others stopped.
DAMAGES = [
    (nodes, lost, stopped)
    for nodes in (1, 3, 5)
    for lost in range((nodes + 1) // 2)
    for stopped in range(nodes - lost + 1)
]


def damaged(nodes: int, lost: int, stopped: int) -> World:
    world = planted(nodes)
    world.lose(*names(*range(nodes - lost + 1, nodes + 1)))
    world.stop(*names(*range(1, stopped + 1)))
    return world


def prefixes(world: World) -> Iterator[World]:
    """*world* after a plan for it was stopped: before its first act, after each one, after the last."""
    for k in range(len(world.plan()) + 1):
        stopped = copy.deepcopy(world)
        for act in world.plan()[:k]:
            stopped.apply(act)
        yield stopped


def finished(world: World) -> World:
    done = copy.deepcopy(world)
    for act in world.plan():
        done.apply(act)
    return done
