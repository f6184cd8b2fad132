"""morpheus check: what it finds in settings, network and cloud, and that nothing is changed by it."""

import hcloud
import pytest
from typer.testing import CliRunner

from morpheus import folders
from morpheus.cli.app import app
from tests.hetzner.check.device import Device
from tests.hetzner.project import ensure, provider

NOWHERE = "2001:db8::1%nowhere"  # an interface that does not exist


def test_all_is_well_and_nothing_is_changed(device: Device) -> None:
    code, answers = device.check()

    assert code == 0
    parts = ["config", "network", "ssh", *["registry"] * 2, *["cloud"] * 4]
    assert [each["part"] for each in answers] == parts
    simulator = device.simulator
    changes = {each: count for each, count in simulator.requests.items() if not each.startswith("GET ")}
    assert changes == {"PUT /ssh_keys/{id}": 1}
    assert (simulator.billable(), simulator.ssh_keys, simulator.firewalls) == ([], {}, {})
    assert not folders.data_dir().exists()
    assert sum(simulator.requests.values()) <= 8


def test_each_line_is_for_people(device: Device) -> None:
    device.check()
    lines = CliRunner().invoke(app, ["check"]).stdout.splitlines()

    assert all(line.startswith("ok    ") for line in lines)
    assert lines[5] == "ok    cloud     the token is valid"
    assert "cx23 in fsn1" in lines[7]


# Settings


@pytest.mark.parametrize("words", [[], ["config"], ["cloud"]])
def test_while_the_settings_cannot_be_read_nothing_else_is_asked(device: Device, words: list[str]) -> None:
    device.machine["sssh"] = {}

    code, says = device.failed(*words)

    assert (code, "did you mean ssh?" in says) == (2, True)
    assert not device.simulator.requests


def test_without_a_file_that_is_said(device: Device) -> None:
    done = CliRunner().invoke(app, ["check", "config"])

    assert (done.exit_code, "every setting has its default" in done.stdout) == (0, True)


def test_for_nodes_of_this_machine_nothing_of_the_cloud_is_needed(device: Device) -> None:
    device.machine, device.registry = {"provider": "local"}, {}

    assert device.check()[0] == 0
    assert not device.simulator.requests


# Network


def test_without_a_way_to_ipv6_addresses_the_way_out_is_told(device: Device) -> None:
    device.hetzner["ipv6_target"] = NOWHERE

    code, says = device.failed("network")

    assert (code, "machine.ipv4.enabled: true" in says) == (8, True)


def test_ipv4_alone_suffices_where_nodes_have_it(device: Device) -> None:
    device.hetzner |= {"ipv6_target": NOWHERE, "ipv4_target": "127.0.0.1"}
    device.machine["ipv4"] = {"enabled": True}

    assert device.check("network")[0] == 0


def test_no_way_out_at_all_is_said(device: Device) -> None:
    device.hetzner |= {"ipv6_target": NOWHERE, "ipv4_target": "255.255.255.255"}
    device.machine["ipv4"] = {"enabled": True}

    code, says = device.failed("network")

    assert (code, "connect it to a network" in says) == (8, True)


# The cloud


def test_without_a_token_it_is_said_where_one_comes_from(device: Device) -> None:
    device.hetzner["token"] = None

    code, says = device.failed("cloud")

    assert (code, "HETZNER_API_TOKEN" in says) == (2, True)


def test_a_wrong_token_is_one_answer(device: Device) -> None:
    device.hetzner["token"] = "x" * 64

    code, says = device.failed("cloud")

    assert (code, "the token is not accepted" in says) == (2, True)
    assert sum(device.simulator.requests.values()) == 1


def test_a_token_that_may_only_read_is_told(device: Device) -> None:
    device.hetzner["token"] = device.simulator.read_only_token

    code, says = device.failed("cloud")

    assert (code, says.startswith("Cannot change anything: the token may only read")) == (2, True)


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("server_type", "cx99", "there is no server type cx99"),
        ("location", "mars", "there is no location mars"),
        ("image", "debian-1", "there is no image debian-1"),
    ],
)
def test_what_does_not_exist_is_told(device: Device, setting: str, value: str, sentence: str) -> None:
    device.hetzner[setting] = value

    code, says = device.failed("cloud")

    assert (code, sentence in says) == (2, True)


def test_what_is_sold_out_is_told_with_other_places(device: Device) -> None:
    device.simulator.faults.sold_out("cx23", "fsn1")

    code, says = device.failed("cloud")

    assert (code, "cx23 in fsn1: sold out" in says) == (9, True)

    device.hetzner["location"] = ["fsn1", "nbg1"]
    _, answers = device.check("cloud")
    assert "cx23 in nbg1" in answers[2]["says"]
    assert answers[2]["says"].endswith("not now: cx23 in fsn1")


def test_servers_are_counted(device: Device) -> None:
    (device.folder / "other").mkdir()
    ensure(provider(device.simulator, device.folder / "other"), 2)

    assert device.check("cloud")[1][-1]["says"].startswith("2 server(s) in the project")


def test_the_zone_of_names_is_asked_for_where_nodes_are_to_have_some(device: Device) -> None:
    device.dns = {"provider": "hetzner", "domain": "trees.example.com"}
    code, says = device.failed("cloud")
    assert (code, "no zone in this project holds trees.example.com" in says) == (2, True)

    url = f"{device.simulator.url}/v1"
    hcloud.Client(device.simulator.token, api_endpoint=url).zones.create(name="example.com", mode="primary")

    says = device.check("cloud")[1][-1]["says"]
    assert says == "nodes get names below trees.example.com, in the zone example.com"


def test_an_api_that_gives_no_answer_is_one_answer(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morpheus.cloud.hetzner.api.RETRIES", 0)
    device.simulator.faults.refuse_connection(times=None)

    code, says = device.failed("cloud")

    assert (code, "gives no answer" in says) == (7, True)


def test_the_first_failure_gives_the_exit_code(device: Device) -> None:
    device.machine["ssh"] = {}
    device.hetzner["token"] = None

    assert device.check()[0] == 8
