"""morpheus list: what the cloud has of the forests, in how many requests, and without the cloud."""

import subprocess
import sys
import time

import hcloud
import pytest

from morpheus.cli import listing
from morpheus.registry import Registry
from morpheus.registry.local import LocalStore
from tests.hetzner.device import Device, put
from tests.hetzner.project import OURS, THEIRS, ensure, provider


def row(text: str, forest: str) -> str:
    return next(line for line in text.splitlines() if line.split()[:1] == [forest])


def test_what_runs_is_told_for_each_forest(device: Device) -> None:
    registry_id = device.record("oak", 3)
    device.record("elm", 1)
    device.record("fir", 1, kind="local")
    cloud = provider(device.simulator, device.folder)
    ensure(cloud, 3, registry_id=registry_id)
    url = f"{device.simulator.url}/v1"
    off = hcloud.Client(device.simulator.token, api_endpoint=url).servers.get_by_name("oak-node-2")
    assert off
    off.power_off()

    text = device.run("list")

    assert "2/3 running" in row(text, "oak")
    assert "0/1 running" in row(text, "elm")
    assert "running" not in row(text, "fir")
    clouds = {each["name"]: each["cloud"] for each in device.json("list")["forests"]}
    assert clouds == {
        "oak": {"servers": 3, "running": 2, "unrecorded": []},
        "elm": {"servers": 0, "running": 0, "unrecorded": []},
        "fir": None,
    }


def test_servers_that_nobody_recorded_are_told(device: Device) -> None:
    registry_id = device.record("oak", 1)
    put(device.simulator, registry_id, ["oak-node-1", "oak-node-7", "ash-node-1"])
    put(device.simulator, THEIRS, ["yew-node-1"])

    text, found = device.run("list"), device.json("list")

    assert "1/1 running, 1 unrecorded!" in row(text, "oak")
    ash, oak = (line for line in text.splitlines() if line.startswith("Unrecorded: "))
    assert ash.startswith("Unrecorded: ash-node-1 (2001:db8:")
    assert "/month: remove it with morpheus teardown ash" in ash.replace(sys.argv[0], "morpheus")
    assert "oak-node-7" in oak
    assert "goes with its forest oak" in oak
    assert "yew" not in text
    assert [(each["name"], each["forest"], each["status"]) for each in found["unrecorded"]] == [
        ("ash-node-1", "ash", "running"),
        ("oak-node-7", "oak", "running"),
    ]
    assert found["unrecorded"][0]["price"]["monthly"] > 0
    assert found["forests"][0]["cloud"]["unrecorded"] == ["oak-node-7"]


def test_servers_are_told_when_no_forest_is_recorded_any_more(device: Device) -> None:
    registry_id = device.record("oak", 1)
    Registry(LocalStore(device.folder / "registry.json")).update(
        lambda document, _: document.without_forest("oak")
    )
    put(device.simulator, registry_id, ["ash-node-1"])

    text, found = device.run("list"), device.json("list")

    assert "No forests yet" in text
    assert "Unrecorded: ash-node-1" in text
    assert [each["name"] for each in found["unrecorded"]] == ["ash-node-1"]


def test_before_anything_was_planted_the_cloud_is_not_asked(device: Device) -> None:
    text = device.run("list")

    assert device.simulator.requests.total() == 0
    assert "No forests yet. Plant one in the cloud: morpheus plant cloud" in text.replace(
        sys.argv[0], "morpheus"
    )


@pytest.mark.parametrize(("provider", "has_token"), [("local", True), ("hetzner", False)])
def test_without_a_cloud_to_plant_in_this_machine_is_named(
    device: Device, provider: str, has_token: bool
) -> None:
    device.settle(token=device.simulator.token if has_token else None, provider=provider)

    assert "plant local" in device.run("list")


@pytest.mark.parametrize(("servers", "requests"), [(1, 1), (50, 1), (51, 2), (120, 3)])
@pytest.mark.parametrize("ipv4", [None, "192.0.2.1"])
def test_a_list_is_one_request_for_each_fifty_servers_begun_and_one_for_prices(
    device: Device, servers: int, requests: int, ipv4: str | None
) -> None:
    registry_id = device.record("oak", 100)
    device.record("elm", 20)
    every = [f"oak-node-{k}" for k in range(1, 101)] + [f"elm-node-{k}" for k in range(1, 21)]
    put(device.simulator, registry_id, every[:servers], ipv4=ipv4)

    text = device.run("list")

    assert f"{min(servers, 100)}/100 running" in row(text, "oak")
    assert device.simulator.requests["GET /servers"] == requests
    assert device.simulator.requests.total() == requests + bool(ipv4)


# Without the cloud


def test_without_a_token_the_forests_are_listed_and_why_no_more(device: Device) -> None:
    device.record("oak", 1)
    device.settle(token=None)

    text, found = device.run("list"), device.json("list")

    assert row(text, "oak").split()[-2] == "-"
    assert "What the cloud has is not known: There is no API token" in text
    assert found["forests"][0]["cloud"] is None
    assert found["cloud_fault"].startswith("There is no API token")


def test_a_cloud_that_refuses_is_told(device: Device) -> None:
    device.record("oak", 1)
    device.settle(token="w" * 64)

    assert "is not known: Cannot list the servers of all forests: the token is not accepted" in device.run(
        "list"
    )


def test_a_cloud_that_keeps_silent_is_not_waited_for(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "BOUND", 0.5)
    device.record("oak", 1)
    device.simulator.faults.lose_reply("GET /servers", times=None, after="timeout")
    started = time.monotonic()

    text = device.run("list")

    assert time.monotonic() - started < 5
    assert row(text, "oak").split()[-2] == "-"
    assert "is not known: There was no answer for" in text


def test_without_a_forest_on_the_cloud_nothing_is_asked(device: Device) -> None:
    device.record("fir", 1, kind="local")
    put(device.simulator, OURS, ["oak-node-1"])
    program = "import sys; from morpheus.cli.app import app; app(['list'], standalone_mode=False); "

    done = subprocess.run(
        [sys.executable, "-c", f"{program} sys.exit('hcloud' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert row(done.stdout, "fir")
    assert "CLOUD" not in done.stdout
    assert not device.simulator.requests
