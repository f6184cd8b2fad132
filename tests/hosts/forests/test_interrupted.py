"""Plants whose process is killed, on a real machine: the next one goes on from wherever that was."""

import os
import signal
import subprocess
import sys

import pytest

from morpheus.cli.temporary import Temporary
from morpheus.forest import Status
from tests.hosts.forests.stands import Stand
from tests.hosts.forests.test_again import own_key, scanned
from tests.hosts.forests.test_reach import answering

pytestmark = pytest.mark.root

# A plant that ends itself at one point: before or after something is recorded, or at the delivery of a file.
PLANT = """
import os, signal, sys
import flows.plant, tasks.nats
from flows import _machines, _raising

when, what = sys.argv[1:]

def die(here):
    if here == f"{when} {what}":
        os.kill(os.getpid(), signal.SIGKILL)

def record(what, hold, change, record=_machines.record):
    die(f"before {what}")
    record(what, hold, change)
    die(f"after {what}")

def put(machine, file, put=tasks.nats.put):
    die(f"at {file.path}")
    return put(machine, file)

_machines.record = _raising.record = record
tasks.nats.put = put
flows.plant.plant("oak", nodes=1)
"""


def killed(prefect: Temporary, when: str, what: str) -> None:
    """Plant in a process of its own, which is killed there."""
    environment = {**os.environ, **prefect.client_environment()}
    process = subprocess.run(
        [sys.executable, "-c", PLANT, when, what],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr[-3000:]


def test_a_plant_that_is_killed_again_and_again_goes_on_each_time(prefect: Temporary, stand: Stand) -> None:
    """With one machine, on which nothing is done twice."""
    killed(prefect, "before", "addresses")
    assert [stand.forest.node("oak-node-1").ip, *stand.simulator.servers] == [None, "oak-node-1"]

    killed(prefect, "after", "new-host-keys")
    (host,) = stand.hosts
    birth, next_key = (
        stand.secrets.birth_key(host.name).public,
        stand.forest.nodes[0].metadata["host_key_next"],
    )
    assert (own_key(stand, host), scanned(stand.lab, host)) == (birth, {birth})

    killed(prefect, "before", "own-host-keys")
    assert (own_key(stand, host), scanned(stand.lab, host)) == (birth, {next_key})

    killed(prefect, "before", "active")
    assert (own_key(stand, host), stand.forest.status) == (next_key, Status.PROVISIONING)
    pid = host.run(["systemctl", "show", "--value", "--property=MainPID", "nats"]).stdout

    stand.plant(nodes=1)

    assert stand.forest.status == Status.ACTIVE
    assert stand.status.formation.formed
    assert stand.simulator.requests["POST /servers"] == 1
    assert host.run(["systemctl", "show", "--value", "--property=MainPID", "nats"]).stdout == pid
    assert scanned(stand.lab, host) == {next_key}

    stand.home.settle(firewall={"nats": ["::/0"]})
    killed(prefect, "at", "/etc/nimsforest/nats.conf")
    stand.plant()

    assert answering(stand.lab.outside, host.address, [4222]) == {4222}
    assert stand.status.formation.formed
