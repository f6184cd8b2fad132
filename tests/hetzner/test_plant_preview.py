"""What morpheus plant cloud --dry-run shows, and what it refuses before anything begins."""

import pytest
from typer.testing import CliRunner

from morpheus.cli.app import app
from tests.hetzner.check.device import keygen
from tests.hetzner.device import Device


def test_the_steps_the_price_and_that_only_machines_are_made(device: Device) -> None:
    device.settle(token=device.simulator.token, ssh=keygen(device.folder / "key"))

    text = device.run("plant", "cloud", "medium", "--dry-run")

    assert "It would cost at most: EUR" in text
    assert "Only the machines are made" in text
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


def test_there_is_nothing_to_connect_to_where_only_machines_are_made(device: Device) -> None:
    device.record("oak", 1)

    done = CliRunner().invoke(app, ["connect", "oak"])

    assert done.exit_code == 8
    assert "no NATS server to connect to yet" in done.stderr


def test_a_forest_on_its_way_out_is_shown_as_that(device: Device) -> None:
    device.record("oak", 1)
    device.leave("oak")

    text = CliRunner().invoke(app, ["status", "oak"]).stdout

    assert "It is being torn down. To finish:" in text
    assert "teardown oak" in text
    assert "To heal it" not in text
