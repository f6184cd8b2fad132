"""What morpheus teardown shows before it begins, and that nothing is touched until the name is typed."""

import os
from collections.abc import Callable, Iterator

import hcloud
import pytest
from typer.testing import CliRunner

from morpheus.cli.app import app
from morpheus.cloud.hetzner import HetznerCloud
from morpheus.settings import DnsSettings, FirewallSettings
from tests.hetzner.device import Device, put
from tests.hetzner.project import THEIRS, ensure, machine_settings
from tests.simulator import Simulator

DNS = {"provider": "hetzner", "domain": "example.com"}


@pytest.fixture
def client(simulator: Simulator) -> hcloud.Client:
    return hcloud.Client(simulator.token, api_endpoint=f"{simulator.url}/v1")


@pytest.fixture
def oak(device: Device, client: hcloud.Client) -> Device:
    """Three nodes with names, the second of them protected, beside a forest of another registry."""
    client.zones.create(name="example.com", mode="primary")
    registry_id = device.record("oak", 3)
    machine = machine_settings(device.simulator, device.folder)
    cloud = HetznerCloud(machine, FirewallSettings(), DnsSettings.model_validate(DNS))
    cloud.admit(registry_id, "oak", ensure(cloud, 3, registry_id=registry_id))
    cloud.admit(THEIRS, "elm", ensure(cloud, 1, forest="elm", registry_id=THEIRS))
    server = client.servers.get_by_name("oak-node-2")
    assert server
    server.change_protection(delete=True, rebuild=True)
    return device


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Has something typed on a terminal, which is stdin."""
    outside, inside = os.openpty()
    with os.fdopen(inside) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        yield lambda text: (os.write(outside, f"{text}\n".encode()), None)[1]
    os.close(outside)


def test_all_there_is_of_a_forest_is_shown(oak: Device, simulator: Simulator) -> None:
    before = [what for what in simulator.requests.elements() if not what.startswith("GET")]

    told = [line.strip() for line in oak.run("teardown", "oak", "--dry-run").splitlines()]

    assert told[0] == "Tearing oak down removes its 3 node(s) and all their data:"
    assert told[-1] == "Until now it costs: EUR 0.0183/h, 11.76/month, VAT included"
    first, second, third, firewall, group, *names = told[1:-1]
    for k, line in enumerate((first, second, third), start=1):
        address = str(simulator.servers[f"oak-node-{k}"].ipv6).replace("/64", "1")
        assert line.startswith(f"server oak-node-{k} (cx23 in fsn1, {address}, running, EUR ")
        assert ("PROTECTED" in line) == (k == 2)
    assert firewall.startswith("firewall oak-")
    assert group.startswith("placement group oak-")
    assert names == [f"DNS name oak-node-{k}.example.com (AAAA)" for k in (1, 2, 3)]
    assert [what for what in simulator.requests.elements() if not what.startswith("GET")] == before


def test_scripts_see_the_same(oak: Device) -> None:
    found = oak.json("teardown", "oak", "--dry-run")

    assert (found["name"], found["nodes"], len(found["holdings"])) == ("oak", 3, 8)
    assert found["price"]["monthly"] == pytest.approx(11.76)


def test_servers_that_no_record_knows_are_shown_as_well(device: Device, simulator: Simulator) -> None:
    registry_id = device.record("oak", 1)
    put(simulator, registry_id, ["oak-node-1", "oak-node-7", "ash-node-1"])

    recorded, unrecorded = (device.json("teardown", name, "--dry-run") for name in ("oak", "ash"))

    assert [each.split()[1] for each in recorded["holdings"]] == ["oak-node-1", "oak-node-7"]
    assert [each.split()[1] for each in unrecorded["holdings"]] == ["ash-node-1"]
    assert unrecorded["nodes"] == 1
    assert unrecorded["price"]["monthly"] > 0


def test_nothing_is_touched_until_the_name_is_typed(
    oak: Device,
    simulator: Simulator,
    typed: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    typed("oka")

    with pytest.raises(SystemExit) as ended:
        app(["teardown", "oak"])

    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert "That was not oak: nothing was changed." in shown.err
    assert "server oak-node-3 (cx23" in shown.err
    assert "Tearing" not in shown.out
    assert sorted(simulator.servers) == ["elm-node-1", "oak-node-1", "oak-node-2", "oak-node-3"]


def test_a_name_that_nobody_knows_keeps_its_message(oak: Device) -> None:
    for words in (["--dry-run"], ["--yes"], []):
        done = CliRunner().invoke(app, ["teardown", "elm", *words])

        assert (done.exit_code, done.stdout) == (3, "")
        assert "There is no forest elm. The forests are: oak." in done.stderr


def test_a_record_without_anything_is_said_to_be_that(device: Device) -> None:
    device.record("oak", 1)

    refused = CliRunner().invoke(app, ["teardown", "oak", "--dry-run"])

    assert refused.exit_code == 5
    assert "this project has nothing of it" in refused.stderr
    assert "nothing but its record is left" in device.run("teardown", "oak", "--dry-run", "--gone")
