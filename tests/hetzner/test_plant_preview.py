"""What morpheus plant cloud --dry-run shows, and what it refuses before anything begins."""

import pytest
from typer.testing import CliRunner

from morpheus.cli.app import app
from tests.hetzner.check.device import keygen
from tests.hetzner.device import Device, put


def test_the_price_and_every_step_of_machines_are_told_in_their_order(device: Device) -> None:
    device.settle(token=device.simulator.token, ssh=keygen(device.folder / "key"))

    text = device.run("plant", "cloud", "medium", "--dry-run")

    assert "It would cost at most: EUR" in text
    steps = [
        *("secrets of", "firewall and placement group of", "create", "record the address of"),
        *("firewall between", "enter", "install", "host key of its own", "configure", "start", "verify"),
    ]
    places = [text.index(f" {each} ") for each in steps]
    assert places == sorted(places)
    assert {each.split()[0] for each in device.simulator.requests} == {"GET"}


@pytest.mark.parametrize(
    ("setting", "value", "sentence", "code"),
    [
        ("image", "debian-99", "there is no image debian-99", 2),
        ("ssh", "nowhere", "nowhere", 2),
    ],
)
def test_what_would_keep_servers_from_being_made_is_refused(
    device: Device, setting: str, value: str, sentence: str, code: int
) -> None:
    key = keygen(device.folder / "key")
    if setting == "ssh":
        device.settle(token=device.simulator.token, ssh=device.folder / value)
    else:
        device.settle(token=device.simulator.token, ssh=key, **{setting: value})

    for more in (["--dry-run"], []):
        done = CliRunner().invoke(app, ["plant", "cloud", "small", *more])

        assert (done.exit_code, done.stdout) == (code, "")
        assert sentence in done.stderr
    assert device.simulator.billable() == []


@pytest.mark.parametrize("words", [["connect", "oak"], ["ssh", "oak", "--", "true"], ["logs", "oak"]])
def test_without_the_key_no_machine_is_entered(device: Device, words: list[str]) -> None:
    device.record("oak", 1)

    done = CliRunner().invoke(app, words)

    assert (done.exit_code, done.stdout) == (5, "")
    assert "never had a key" in done.stderr
    assert list(device.folder.glob("secrets/*")) == []


def test_status_tells_what_it_cannot_read_and_why(device: Device) -> None:
    put(device.simulator, device.record("oak", 1), ["oak-node-1"])

    told = device.json("status", "oak")

    assert told["formed"] is True
    assert told["nodes"][0]["state"] == "running"
    assert "never had a key" in told["unread"]
    assert "Not read: The registry" in device.run("status", "oak")


def test_a_forest_on_its_way_out_is_shown_as_that(device: Device) -> None:
    device.record("oak", 1)
    device.leave("oak")

    text = CliRunner().invoke(app, ["status", "oak"]).stdout

    assert "It is being torn down. To finish:" in text
    assert "teardown oak" in text
    assert "To heal it" not in text
