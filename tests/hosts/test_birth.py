"""A machine is born with everything but NATS's configuration, which waits for that; then systemd keeps it."""

import json
import time

import pytest

from morpheus.machine import places
from morpheus.nats.listeners import Openings
from tests.hosts import nursery
from tests.hosts.conftest import Boot
from tests.hosts.nursery import bear, deliver, node_of, says, start, wait_healthy
from tests.lab import Host, Lab
from tests.lab.commands import until
from tests.lab.visitors import Knock, Visitor, knock
from tests.machine.births import PUBLIC

pytestmark = pytest.mark.root

IMAGES = ["debian-12", "debian-13"]
WORKLOAD = """#!/bin/sh
echo "$NATS_URL $FOREST_ID $(id -un) $(pwd)"
echo kept > kept
ls jetstream || echo no store for me
exec sleep infinity
"""
# Speaks NATS as a client does, for as long as it is let.
CLIENT = """
exec 3<> /dev/tcp/127.0.0.1/4222
printf 'CONNECT {"protocol":1}\\r\\nPING\\r\\n' >&3
cat <&3 > /tmp/heard
"""


@pytest.mark.parametrize("image", IMAGES)
def test_a_machine_is_born_well(boot: Boot, visitor: Visitor, image: str) -> None:
    host = bear(boot, visitor, node_of("workload", 1), image=image)

    status = json.loads(says(host, "cloud-init", "status", "--format", "json"))
    assert (status["status"], status["errors"]) == ("done", [])
    assert says(host, "systemctl", "is-system-running", "--wait") == "running"
    assert says(host, "hostname") == "oak-node-1"
    assert json.loads(says(host, "cat", "/etc/morpheus/node-info.json"))["node_id"] == "oak-node-1"
    assert says(host, "sh", "-c", "cat /etc/ssh/ssh_host_*.pub").startswith(PUBLIC)
    assert says(host, "sh", "-c", "ls /etc/ssh/ssh_host_*_key") == "/etc/ssh/ssh_host_ed25519_key"
    assert "passwordauthentication no" in says(host, "sshd", "-T")
    assert says(host, "systemctl", "is-enabled", "nats", "nimsforest") == "disabled\ndisabled"


@pytest.mark.parametrize("image", IMAGES)
def test_every_folder_belongs_to_whom_it_should(boot: Boot, visitor: Visitor, image: str) -> None:
    host = bear(boot, visitor, node_of("workload", 1), image=image)

    folders = (places.SETTINGS, places.TLS, places.LIBRARY, places.DATA, places.STORE, places.LOGS)
    seen = says(host, "stat", "--format=%a %U:%G %n", *folders, places.LAYOUT.marker, places.BINARIES)

    assert seen.splitlines() == [
        "2755 root:nats /etc/nimsforest",
        "2755 root:nats /etc/nimsforest/tls",
        "1775 root:nimsforest /var/lib/nimsforest",
        "750 nimsforest:nimsforest /var/lib/nimsforest/data",
        "700 nats:nats /var/lib/nimsforest/jetstream",
        "755 nats:nats /var/log/nimsforest",
        "600 nats:nats /var/lib/nimsforest/jetstream/jetstream/APP/morpheus.json",
        "755 root:root /opt/nimsforest/bin",
    ]


def test_nats_does_not_start_before_it_is_configured(boot: Boot, visitor: Visitor) -> None:
    host = bear(boot, visitor, node_of("nats", 1))

    start(host)

    assert says(host, "systemctl", "is-active", "nats") == "inactive"
    assert "ConditionPathExists=/etc/nimsforest/cluster.conf" in says(host, "systemctl", "status", "nats")


def test_nats_does_not_start_when_its_store_is_gone(boot: Boot, visitor: Visitor) -> None:
    """Under its old name it would make acknowledged messages vanish."""
    host = bear(boot, visitor, node_of("nats", 1))
    deliver([host])
    says(host, "rm", places.LAYOUT.marker)

    start(host)

    assert says(host, "systemctl", "is-active", "nats") == "inactive"
    assert f"ConditionPathExists={places.LAYOUT.marker}" in says(host, "systemctl", "status", "nats")


@pytest.mark.parametrize("image", IMAGES)
def test_nats_runs_as_its_own_user_and_every_line_of_its_log_is_in_the_journal(
    boot: Boot, visitor: Visitor, image: str
) -> None:
    host = bear(boot, visitor, node_of("nats", 1), image=image)
    deliver([host])

    start(host)
    wait_healthy(host)

    assert says(host, "sh", "-c", "ps -o user= -p $(systemctl show -P MainPID nats)") == "nats"
    until("the server is ready", lambda: any("Server is ready" in line for line in journal(host)))
    until("both have it all", lambda: written(host) == journal(host))


@pytest.mark.parametrize("image", IMAGES)
def test_the_last_words_of_a_server_that_cannot_start_are_in_the_journal(
    boot: Boot, visitor: Visitor, image: str
) -> None:
    host = bear(boot, visitor, node_of("nats", 1), image=image)
    deliver([host])
    says(host, "chown", "root:", places.LAYOUT.data)

    start(host)

    until("it is said", lambda: any("storage directory is not writable" in line for line in journal(host)))


@pytest.mark.parametrize("image", IMAGES)
def test_a_server_that_was_killed_and_a_machine_that_was_reset_come_back(
    boot: Boot, visitor: Visitor, image: str
) -> None:
    host = bear(boot, visitor, node_of("nats", 1), image=image)
    deliver([host])
    start(host)
    wait_healthy(host)
    before = says(host, "systemctl", "show", "-P", "MainPID", "nats")

    says(host, "systemctl", "kill", "--signal=KILL", "nats")
    until(
        "it runs again", lambda: says(host, "systemctl", "show", "-P", "MainPID", "nats") not in {before, "0"}
    )
    wait_healthy(host)
    host.reset()

    visitor.born(host)
    wait_healthy(host)
    assert says(host, "cat", places.LAYOUT.marker).startswith('{"forest": "oak"')


@pytest.mark.parametrize("image", IMAGES)
def test_a_server_with_a_client_is_stopped_in_seconds_and_in_peace(
    boot: Boot, visitor: Visitor, image: str
) -> None:
    host = bear(boot, visitor, node_of("nats", 1), image=image)
    deliver([host])
    start(host)
    wait_healthy(host)
    says(host, "systemd-run", "--unit=client", "bash", "-c", CLIENT)
    until("it is heard", lambda: "PONG" in says(host, "cat", "/tmp/heard"))

    started = time.monotonic()
    says(host, "systemctl", "stop", "nats")

    assert time.monotonic() - started < 10
    assert says(host, "systemctl", "show", "-P", "Result", "nats") == "success"
    until("it is written", lambda: any("Server Exiting" in line for line in journal(host)))
    assert any("Entering lame duck mode" in line for line in journal(host))
    assert '"ldm":true' in says(host, "cat", "/tmp/heard")


@pytest.mark.parametrize("image", IMAGES)
def test_the_workload_comes_and_goes_with_nats_and_sees_nothing_of_its_store(
    boot: Boot, visitor: Visitor, image: str
) -> None:
    host = bear(boot, visitor, node_of("workload", 1), image=image)
    deliver([host])
    nursery.put(host, places.WORKLOAD_BINARY, WORKLOAD, 0o755)

    start(host)
    start(host, "nimsforest")
    until("it speaks", lambda: "no store for me" in host.journal("-u", "nimsforest"))
    says(host, "systemctl", "stop", "nats")
    stopped = says(host, "systemctl", "is-active", "nimsforest")
    says(host, "systemctl", "start", "nats")

    assert "nats://localhost:4222 oak nimsforest /var/lib/nimsforest" in host.journal("-u", "nimsforest")
    assert says(host, "cat", "/var/lib/nimsforest/kept") == "kept"
    assert stopped == "inactive"
    until("it is back", lambda: says(host, "systemctl", "is-active", "nimsforest") == "active")


@pytest.mark.parametrize("image", IMAGES)
def test_a_workload_that_brings_its_own_server_keeps_the_store(
    boot: Boot, visitor: Visitor, image: str
) -> None:
    host = bear(boot, visitor, node_of("embedded", 1), image=image)
    nursery.put(host, places.EMBEDDED_BINARY, WORKLOAD, 0o755)

    start(host, "nimsforest")

    until("it speaks", lambda: "oak nimsforest /var/lib/nimsforest" in host.journal("-u", "nimsforest"))
    assert "no store for me" not in host.journal("-u", "nimsforest")
    assert (
        says(host, "stat", "--format=%U", places.LAYOUT.marker, places.LAYOUT.data)
        == "nimsforest\nnimsforest"
    )
    assert says(host, "systemctl", "is-system-running", "--wait") == "running"


def test_three_machines_form_a_cluster_of_which_nothing_but_routes_is_heard_outside(
    boot: Boot, visitor: Visitor, lab: Lab
) -> None:
    hosts = [bear(boot, visitor, node_of("nats", k), image=IMAGES[k % 2]) for k in (1, 2, 3)]
    deliver(hosts)

    for host in hosts:
        start(host)

    for host in hosts:
        wait_healthy(host)
    asked = "curl --silent http://127.0.0.1:8222/jsz | jq .meta_cluster.cluster_size"
    assert [says(host, "sh", "-c", asked) for host in hosts] == ["3", "3", "3"]
    with lab.outside.entered():
        doors = {port: knock(hosts[0].address, port) for port in (22, 4222, 6222, 7777, 8222)}
    refused = {4222: Knock.REFUSED, 7777: Knock.REFUSED, 8222: Knock.REFUSED}
    assert doors == {22: Knock.OPEN, 6222: Knock.OPEN, **refused}


def test_what_was_opened_is_heard_outside(boot: Boot, visitor: Visitor, lab: Lab) -> None:
    host = bear(boot, visitor, node_of("nats", 1))
    deliver([host], Openings(nats=True, leafnode=True, monitoring=True))

    start(host)
    wait_healthy(host)

    with lab.outside.entered():
        assert {knock(host.address, port) for port in (4222, 7777, 8222)} == {Knock.OPEN}
    seen = lab.outside.run(["curl", "--silent", f"http://[{host.address}]:8222/varz"]).stdout
    assert json.loads(seen)["server_name"] == "oak-node-1"


def journal(host: Host) -> list[str]:
    """What NATS has said, as its log has it."""
    said = says(host, "journalctl", "--no-pager", "--output=cat", "--identifier=nats-server")
    return [line for line in said.splitlines() if line.startswith("[")]


def written(host: Host) -> list[str]:
    """The log itself; the journal keeps no spaces at the end of a line."""
    return [line.rstrip() for line in says(host, "cat", places.LAYOUT.log).splitlines()]
