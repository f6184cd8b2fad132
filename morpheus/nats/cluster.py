"""Is it formed? A verdict from readings alone; and the proof, a message through the cluster."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from morpheus.nats.monitor import MetaGroup, Reading, peer_id


@dataclass(frozen=True, slots=True)
class Formation:
    """Whether a forest's servers form what they are meant to form, and if not, why.

    ``states`` says for each expected server in one word or a few how it stands. ``known`` is off where
    nothing speaks against it, but nobody can tell: then it is not formed for certain either.
    """

    formed: bool
    reason: str
    states: Mapping[str, str]
    leader: str = ""
    known: bool = True

    @property
    def current(self) -> int:
        """How many of the expected servers are current."""
        return sum(state == CURRENT for state in self.states.values())


CURRENT = "current"


def judge(readings: Mapping[str, Reading]) -> Formation:
    """The verdict over the readings of all expected servers, by their names.

    One server alone has to be healthy. Of several the meta leader is asked, nobody else knows: its group
    has exactly the expected members, each of them current; and each server says that it is healthy.
    """
    if len(readings) == 1:
        return _judge_alone(*next(iter(readings.items())))
    leaders = [
        name for name, each in readings.items() if each.reachable and each.leads and each.server == name
    ]
    name = leaders[0] if len(leaders) == 1 else ""
    view = _named(readings[name].meta, readings) if name else None
    states = {name: _state(name, reading, view) for name, reading in readings.items()}
    if view is None:
        return Formation(False, _leaderless(leaders, readings.values()), states)
    members = {view.leader, *(replica.name for replica in view.replicas)}
    expected = set(readings)
    if members != expected or view.size != len(expected):
        return Formation(False, _difference(members, expected, view.size), states, name)
    missing = [f"{server} is {state}" for server, state in states.items() if state != CURRENT]
    if missing:
        return Formation(False, "; ".join(missing), states, name)
    return Formation(True, f"{len(states)} of {len(states)} current, led by {name}", states, name)


def heard(readings: Mapping[str, Reading]) -> Formation:
    """The verdict over servers that workloads bring along, by the names of their nodes.

    They may have no monitoring, and names of their own. What cannot be measured is unknown.
    """
    told = judge(readings)
    if told.formed:
        return told
    states = {name: _heard(name, reading, told) for name, reading in readings.items()}
    answering = sum(reading.reachable for reading in readings.values())
    reason = f"{answering} of {len(readings)} answer"
    if wrong := [f"{name} is {states[name]}" for name, each in readings.items() if _is_wrong(each)]:
        return Formation(False, "; ".join((reason, *wrong)), states)
    return Formation(False, f"{reason}; more cannot be measured from outside", states, known=False)


def _is_wrong(reading: Reading) -> bool:
    return not reading.reachable or (reading.measured and reading.health != "ok")


def _heard(name: str, reading: Reading, told: Formation) -> str:
    if not reading.reachable:
        return f"unreachable ({reading.error})"
    if not reading.measured:
        return "unknown (it answers, and has no monitoring)"
    if reading.health != "ok":
        return f"unhealthy ({reading.health})"
    return CURRENT if told.states[name] == CURRENT else "unknown (it is well; its cluster is its own affair)"


def without_stores(verdict: Formation, gone: Sequence[str]) -> Formation:
    """*verdict* when the stores of *gone* are not in their places.

    Their servers may run on, on files that nobody can open any more, and call themselves well.
    """
    if not gone:
        return verdict
    states = {**verdict.states, **dict.fromkeys(gone, "without its store")}
    reason = f"the store of {', '.join(gone)} is gone: plant again to replace what can be replaced"
    if not verdict.formed:
        reason = f"{verdict.reason}; {reason}"
    return replace(verdict, formed=False, reason=reason, states=states)


def members(readings: Mapping[str, Reading], leader: str) -> frozenset[str]:
    """The servers that the meta group counts, as its *leader* sees it."""
    view = _named(readings[leader].meta, readings)
    return frozenset({view.leader, *(replica.name for replica in view.replicas)} if view else ())


def _leaderless(leaders: Sequence[str], readings: Iterable[Reading]) -> str:
    if leaders:
        return f"{' and '.join(leaders)} both lead, so one of them is wrong"
    if not any(each.reachable for each in readings):
        return "no server answers"
    lonely = [each.server for each in readings if each.routes == 0]
    told = f"; without a route to another node: {', '.join(lonely)}" if lonely else ""
    return f"no server leads the meta group yet{told}"


def _named(view: MetaGroup | None, expected: Iterable[str]) -> MetaGroup | None:
    """*view* with the names of those expected servers that the leader knows by their ids alone."""
    if view is None:
        return None
    names = {peer_id(name): name for name in expected}
    known = (replace(each, name=names.get(each.peer, each.name)) for each in view.replicas)
    return replace(view, replicas=tuple(known))


def _judge_alone(name: str, reading: Reading) -> Formation:
    state = CURRENT if reading.reachable and reading.health == "ok" else _unwell(name, reading)
    if state == CURRENT and reading.server != name:
        state = f"somebody else ({reading.server})"
    if state == CURRENT:
        return Formation(True, "1 of 1 current", {name: state}, name)
    return Formation(False, f"{name} is {state}", {name: state})


def _state(name: str, reading: Reading, view: MetaGroup | None) -> str:
    if not reading.reachable or reading.health != "ok":
        return _unwell(name, reading)
    if reading.server != name:
        return f"somebody else ({reading.server})"
    if view is None:
        return "without a meta leader"
    if name == view.leader:
        return CURRENT
    replica = next((each for each in view.replicas if each.name == name), None)
    if replica is None:
        return "not in the cluster"
    return CURRENT if replica.healthy else "not current"


def _unwell(name: str, reading: Reading) -> str:
    if reading.error:
        return f"unreachable ({reading.error})"
    if reading.server != name:
        return f"somebody else ({reading.server})"
    return f"unhealthy ({reading.health})"


def _difference(members: set[str], expected: set[str], size: int) -> str:
    absent, strange = sorted(expected - members), sorted(members - expected)
    parts = []
    if absent:
        parts.append(f"not in the cluster yet: {', '.join(absent)}")
    if strange:
        parts.append(f"in the cluster although not of this forest: {', '.join(strange)}")
    return "; ".join(parts) or f"the cluster counts {size} members instead of {len(expected)}"
