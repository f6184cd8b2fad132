"""Is it formed? Asked of the meta leader, of nobody else, and only all of them make a cluster."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from morpheus.nats.cluster import judge
from morpheus.nats.monitor import MetaGroup, Reading, Replica, peer_id

A, B, C = "oak-node-1", "oak-node-2", "oak-node-3"
AWAY = Reading(error="nothing answers on its monitoring port")
UNKNOWN = "Server name unknown at this time (peerID: {})"


def replica(name: str, *, current: bool = True, active: int = 500_000_000, offline: bool = False) -> Replica:
    return Replica(name, current=current, active=active, offline=offline, peer=peer_id(name))


def leads(name: str, *replicas: Replica, size: int = 3) -> Reading:
    return Reading(server=name, health="ok", meta=MetaGroup(name, size, replicas))


def follows(name: str, leader: str) -> Reading:
    """A follower, whose view of the other followers means nothing (recorded of 2.15.1)."""
    others = [replica(each, current=each == leader, active=0) for each in (A, B, C) if each != name]
    return Reading(server=name, health="ok", meta=MetaGroup(leader, 3, tuple(others)))


WELL = {A: leads(A, replica(B), replica(C)), B: follows(B, A), C: follows(C, A)}


def with_(**changes: Reading) -> Mapping[str, Reading]:
    return {**WELL, **{{"a": A, "b": B, "c": C}[key]: reading for key, reading in changes.items()}}


def test_three_that_are_current_are_formed() -> None:
    verdict = judge(WELL)

    assert verdict.formed
    assert verdict.leader == A
    assert verdict.current == 3
    assert verdict.reason == f"3 of 3 current, led by {A}"


UNFORMED = {
    "nobody answers": (dict.fromkeys((A, B, C), AWAY), "no server answers"),
    "nobody leads": (with_(a=follows(A, "")), "no server leads"),
    "nobody leads, and one is alone": (
        with_(a=follows(A, ""), c=replace(follows(C, ""), routes=0)),
        f"no server leads the meta group yet; without a route to another node: {C}",
    ),
    "a dead leader is still named": (with_(a=AWAY), "no server leads"),
    "two lead": (with_(b=leads(B, replica(A), replica(C))), "both lead"),
    "one is not current": (with_(a=leads(A, replica(B), replica(C, current=False))), f"{C} is not current"),
    "one was last heard of long ago": (
        with_(a=leads(A, replica(B), replica(C, active=11_000_000_000))),
        f"{C} is not current",
    ),
    "one is offline": (with_(a=leads(A, replica(B), replica(C, offline=True))), f"{C} is not current"),
    "one has not joined": (with_(a=leads(A, replica(B), size=2)), f"not in the cluster yet: {C}"),
    "one more has joined": (
        with_(a=leads(A, replica(B), replica(C), replica("elm-node-1"), size=4)),
        "although not of this forest: elm-node-1",
    ),
    "one more is counted": (with_(a=leads(A, replica(B), replica(C), size=4)), "counts 4 members"),
    "one is away": (with_(c=AWAY), f"{C} is unreachable"),
    "one is unwell": (
        with_(c=replace(WELL[C], health="JetStream is not current")),
        "JetStream is not current",
    ),
    "another server has the port": (with_(c=follows("elm-node-1", A)), "somebody else (elm-node-1)"),
    "another cluster has the port": (with_(a=leads("elm-node-1", size=1)), "no server leads"),
}


@pytest.mark.parametrize(("readings", "reason"), UNFORMED.values(), ids=UNFORMED.keys())
def test_anything_less_is_not_formed(readings: Mapping[str, Reading], reason: str) -> None:
    verdict = judge(readings)

    assert not verdict.formed
    assert reason in verdict.reason


def test_the_view_of_a_follower_is_ignored() -> None:
    blind = replace(follows(B, A), meta=MetaGroup(A, 3, (replica(A, current=False),)))

    assert judge(with_(b=blind)).formed


def test_who_the_leader_knows_by_id_alone_is_called_by_name() -> None:
    unmet = replace(replica(C, current=False), name=UNKNOWN.format(peer_id(C)))

    verdict = judge(with_(a=leads(A, replica(B), unmet), c=AWAY))

    assert verdict.reason == f"{C} is unreachable ({AWAY.error})"


def test_states_tell_how_each_server_stands() -> None:
    verdict = judge(with_(a=leads(A, replica(B), size=2), c=AWAY))

    assert verdict.states == {A: "current", B: "current", C: f"unreachable ({AWAY.error})"}
    assert verdict.current == 2


def test_one_alone_is_formed_when_it_is_well() -> None:
    assert judge({A: Reading(server=A, health="ok")}).formed
    assert judge({A: Reading(server=A, health="ok")}).leader == A


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        (AWAY, "unreachable"),
        (Reading(server=A, health="JetStream not enabled"), "JetStream not enabled"),
        (Reading(server=B, health="ok"), f"somebody else ({B})"),
        (Reading(server=B, health="ill"), f"somebody else ({B})"),
    ],
)
def test_one_alone_is_not_formed_otherwise(reading: Reading, reason: str) -> None:
    verdict = judge({A: reading})

    assert not verdict.formed
    assert verdict.leader == ""
    assert reason in verdict.reason
