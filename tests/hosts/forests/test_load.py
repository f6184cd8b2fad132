"""The load of machines as a check sees it through SSH: what is really above, and what nobody can tell."""

import contextlib
import os
import time
from collections.abc import Iterator

import pytest

from tests.growth.schema import Check
from tests.hosts.forests.stands import Stand
from tests.hosts.forests.test_commands import run
from tests.lab import Host

pytestmark = pytest.mark.root

BOUND = 35.0  # seconds of a check with one machine that is away, on a busy computer


@contextlib.contextmanager
def at_work(host: Host) -> Iterator[None]:
    """Every core that *host* has does nothing but burn, and its disk is nearly full."""
    units = [f"burner-{k}" for k in range(os.cpu_count() or 1)]
    host.fill_disk(90)
    for unit in units:
        begun = host.run(["systemd-run", "--unit", unit, "sh", "-c", "while :; do :; done"])
        assert begun.returncode == 0, begun.stderr
    try:
        yield
    finally:
        host.run(["systemctl", "stop", *units])
        host.free_disk()


def test_a_machine_at_work_is_above(new: Stand) -> None:
    """All hosts of these tests share the cores of this computer; each has a disk of its own."""
    busy = new.hosts[1]

    with at_work(busy):
        done = run(new, "grow", "oak", "--dry-run", "--threshold", "80", "--output", "json")

    assert done.code == 10, done.err
    seen = Check.model_validate_json(done.out)
    above = {kind: {each.node for each in seen.breaches if each.kind == kind} for kind in ("cpu", "disk")}
    assert above["disk"] == {busy.name}
    assert busy.name in above["cpu"]
    assert seen.outcome == "grow"


def test_a_machine_that_is_cut_off_is_unreachable_and_nothing_grows(new: Stand) -> None:
    lost, before = new.hosts[2], new.home.enter().text
    lost.unplug()

    try:
        began = time.monotonic()
        done = run(new, "grow", "oak", "--auto", "--threshold", "1", "--output", "json")
        took = time.monotonic() - began
    finally:
        lost.plug()
    new.wait_formed()

    assert done.code == 7, done.err
    seen = Check.model_validate_json(done.out)
    assert (seen.outcome, seen.wanted, seen.added) == ("unhealthy", 0, [])
    away = next(node for node in seen.nodes if node.name == lost.name)
    assert (away.reachable, away.state.startswith("unreachable")) == (False, True)
    assert {away.cpu_percent, away.memory_percent, away.disk_percent, away.storage_percent} == {None}
    others = [node for node in seen.nodes if node.name != lost.name]
    assert all(node.cpu_percent is not None and node.disk_percent is not None for node in others)
    assert new.home.enter().text == before
    assert took < BOUND
