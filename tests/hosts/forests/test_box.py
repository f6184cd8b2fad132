"""Embedded mode with a Storage Box, which is Apache: nodes read their forest's home in it, and no more."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.teardown import teardown
from morpheus import settings as config
from morpheus import site
from morpheus.cloud.hetzner.boxes import Boxes
from morpheus.machine import places
from morpheus.machine.share import MOUNT, SYNC, TIMER
from morpheus.registry.part import part_of
from tests.flows.homes import Home
from tests.hosts.forests.brought import built, embedded
from tests.hosts.forests.stands import Stand
from tests.lab import Host, Lab
from tests.servers.box import Box, served
from tests.simulator import Latency, Simulator

pytestmark = pytest.mark.root

LAPTOP, PORT = "2001:db8:0:1::1", 8443
PASSWORD = "Aa9-morpheus-registry"
# What every machine of these tests has to trust, and nobody else would.
TRUST = """#!/bin/sh
set -eu
cat > /usr/local/share/ca-certificates/box.crt << 'END'
{certificate}
END
update-ca-certificates
"""


@pytest.fixture(scope="module")
def box(lab: Lab) -> Iterator[Box]:
    """The box of a project whose servers are hosts; it is in the laptop's network."""
    simulator = Simulator(latency=Latency(scale=0), seed=52, boxes_at=f"[{LAPTOP}]:{PORT}", hosts=lab)
    with lab.cleared(), simulator.running(), served(simulator, LAPTOP, PORT) as box:
        yield box
    assert simulator.violations == []


@pytest.fixture(scope="module")
def stand(lab: Lab, prefect: None, box: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A forest whose registry stands in the box."""
    folder = tmp_path_factory.mktemp("box")
    script = folder / "bootstrap.sh"
    script.write_text(TRUST.format(certificate=box.certificate.read_text()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(box.certificate))
        home = Home(folder / "home", box.simulator, patch).settle()
        boxes = Boxes(config.load().machine.hetzner)
        made = boxes.ensure("0" * 32, PASSWORD, boxes.offer())
        box.carry()
        registry = {
            "type": "storagebox",
            "url": str(made.url),
            "username": str(made.username),
            "password": PASSWORD,
        }
        integration = embedded(built(folder / "forest"), bootstrap_script=str(script))
        home.settle(registry=registry, integration=integration)
        stand = Stand(lab, box.simulator, home)
        stand.plant(nodes=3)
        yield stand


def told(host: Host, *argv: str) -> str:
    done = host.run(list(argv))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def reader_of(box: Box) -> str:
    """The user of the forest's nodes."""
    (state,) = box.simulator.storage_boxes.values()
    (account,) = state.subaccounts.values()
    return f"{state.username}-sub{account.number}"


def test_every_node_has_fetched_its_forests_part(stand: Stand, box: Box) -> None:
    stand.wait_formed()
    part = part_of(stand.forest)

    assert (box.home(reader_of(box)) / "registry.json").read_text() == part
    for host in stand.hosts:
        assert told(host, "cat", places.KNOWN) == part.strip()
        assert told(host, "systemctl", "is-active", TIMER) == "active"
        assert told(host, "systemctl", "show", "--value", "-p", "ConditionResult", MOUNT) == "no"


def test_machines_with_ipv6_alone_fetch_their_program_as_well(stand: Stand, box: Box) -> None:
    program = Path(config.load().integration.nimsforest_download_url or "").read_bytes()
    path, reader = f"/bin/{hashlib.sha256(program).hexdigest()}", reader_of(box)

    assert box.log.count(f"{reader} GET {path} 200") == 3
    uploads = [line for line in box.log if " PUT " in line and path in line]
    assert [line.split()[-1] for line in uploads] == ["409", "201"]  # before its folder was there, and after


def test_the_password_is_for_root_alone_and_in_no_command_line(stand: Stand, box: Box) -> None:
    (state,) = box.simulator.storage_boxes.values()
    (account,) = state.subaccounts.values()
    assert account.password == stand.secrets.subaccount_password
    for host in stand.hosts:
        for path in (places.SHARE_SETTINGS, places.SHARE_CREDENTIALS):
            assert told(host, "stat", "-c", "%a %U", path) == "600 root"
            assert account.password in told(host, "cat", path)
        found = host.run(["grep", "-rlF", account.password, "/etc", "/opt", "/mnt", "/var/log", "/run"])
        assert sorted(found.stdout.split()) == [places.SHARE_CREDENTIALS, places.SHARE_SETTINGS]
    assert account.password not in stand.home.text


def test_the_home_is_all_that_a_node_reads_and_it_writes_nothing(stand: Stand, box: Box) -> None:
    host = stand.hosts[0]

    def asked(path: str, *options: str) -> str:
        ask = ["curl", "-sS", "-K", places.SHARE_SETTINGS, "-o", "/dev/null", "-w", "%{http_code}", *options]
        return told(host, *ask, f"https://{box.host}/{path}")

    assert asked("registry.json") == "200"
    assert asked("morpheus/registry.json") == "404"
    assert asked("secrets/oak.json") == "404"
    assert asked("registry.json", "-X", "DELETE") in {"401", "403"}
    assert asked("registry.json", "-T", places.NODE_INFO) in {"401", "403"}


def test_what_changes_is_fetched_and_what_is_broken_is_not(stand: Stand) -> None:
    host, (settings, cloud) = stand.hosts[1], (config.load(), site.configured_cloud(config.load()))
    shelf = site.open_shelf(settings.registry, cloud)
    assert shelf
    before = told(host, "cat", places.KNOWN)
    changed = json.dumps({**json.loads(before), "changed": True})

    shelf.publish("oak", changed[:-9].encode())
    broken = host.run(["systemctl", "start", SYNC]).returncode, told(host, "cat", places.KNOWN)
    shelf.publish("oak", changed.encode())
    told(host, "systemctl", "start", SYNC)

    assert broken == (1, before)
    assert told(host, "cat", places.KNOWN) == changed
    stand.plant()
    assert told(host, "cat", places.KNOWN) == before


def test_the_units_are_sound_and_hardened(stand: Stand) -> None:
    host = stand.hosts[2]

    verified = host.run(
        ["systemd-analyze", "verify", *(f"/etc/systemd/system/{each}" for each in (SYNC, TIMER))]
    )
    exposed = host.run(["systemd-analyze", "security", "--threshold=30", SYNC])

    assert (verified.returncode, verified.stderr) == (0, "")
    assert exposed.returncode == 0, exposed.stdout[-300:]


def test_teardown_leaves_neither_the_account_nor_the_home(stand: Stand, box: Box) -> None:
    home = box.home(reader_of(box))
    assert home.exists()

    teardown("oak")

    (state,) = box.simulator.storage_boxes.values()
    assert state.subaccounts == {}
    assert not home.exists()
    assert [line for line in box.simulator.billable() if not line.startswith("storage_box")] == []
    assert box.simulator.servers == {}
