"""morpheus init when something goes wrong on the way: nothing is paid twice, and no password is lost."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from morpheus import founding, kept, keyring
from morpheus.cloud.hetzner import api
from morpheus.cloud.hetzner.boxes import Box, Boxes
from morpheus.errors import MorpheusError, RefusedError
from morpheus.settings import HetznerSettings
from tests.hetzner.devices import MAKE, POST, NewDevice
from tests.servers.boxes import Files
from tests.simulator.clients import BOX_PASSWORD, client_of, ordered_box

pytestmark = pytest.mark.long


@pytest.mark.parametrize("after", ["reset", "timeout"])
def test_the_answer_to_the_order_is_lost(new_device: NewDevice, files: Files, after: str) -> None:
    files.simulator.faults.lose_reply(POST, after=after)  # type: ignore[arg-type]  # one of the two

    told = new_device().init(*MAKE)

    assert told["key"] == "made"
    assert files.simulator.billable() == ["storage_box morpheus-registry"]


@pytest.mark.parametrize("looks", [1, 2])
def test_the_list_lags_behind_an_order_whose_answer_is_lost(
    new_device: NewDevice, files: Files, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    """As many *looks* after the order do not see the box that it made."""
    device, find, left = new_device(), Boxes.find, [looks]

    def lagging(boxes: Boxes) -> Sequence[Box]:
        found = find(boxes)
        if not found or not left[0]:
            return found
        left[0] -= 1
        return []

    monkeypatch.setattr(api, "ANSWER_TIMEOUT", 0.5)
    monkeypatch.setattr(Boxes, "find", lagging)
    files.simulator.faults.lose_reply(POST, after="timeout")

    if looks > 1:
        code, sentence = device.refused(*MAKE)
        assert (code, "whose password is kept: run morpheus init again" in sentence) == (9, True)
    told = device.init(*MAKE)

    (access,) = device.known
    box = files.simulator.storage_boxes["morpheus-registry"]
    assert told["key"] == "made"
    assert access.password == SecretStr(box.password)
    assert files.simulator.billable() == ["storage_box morpheus-registry"]


def test_while_it_is_not_sure_whose_box_is_there_the_password_is_kept(
    new_device: NewDevice, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, find = new_device(), Boxes.find
    labels = {"managed-by": "morpheus", "purpose": "registry"}

    def without_ours(boxes: Boxes) -> Sequence[Box]:
        if not (found := find(boxes)):
            return found
        if "by-hand" not in files.simulator.storage_boxes:  # somebody labels another box meanwhile
            ordered_box(client_of(files.simulator), name="by-hand").update(labels=labels)
        return [each for each in find(boxes) if each.name == "by-hand"]

    monkeypatch.setattr(api, "ANSWER_TIMEOUT", 0.5)
    monkeypatch.setattr(Boxes, "find", without_ours)
    files.simulator.faults.lose_reply(POST, after="timeout", times=1)

    code, _ = device.refused(*MAKE)
    monkeypatch.setattr(Boxes, "find", find)
    told = device.init(*MAKE)

    assert (code, told["key"]) == (9, "made")
    assert device.known[0].password == SecretStr(files.simulator.storage_boxes["morpheus-registry"].password)


def test_the_order_is_refused_and_repeated(new_device: NewDevice, files: Files) -> None:
    device = new_device()
    files.simulator.faults.status(POST, 403, times=1, code="resource_limit_exceeded")

    code, sentence = device.refused(*MAKE)
    (before,) = device.known
    device.init(*MAKE)

    assert (code, "limit is reached" in sentence) == (9, True)
    (after,) = device.known
    assert (after.password, after.key) == (before.password, before.key)


def test_a_box_that_cannot_be_made_costs_nothing_and_is_made_again(
    new_device: NewDevice, files: Files
) -> None:
    device = new_device()
    files.simulator.faults.action_error("create", times=1)

    code, sentence = device.refused(*MAKE)

    assert code == 9
    assert "was removed again: run morpheus init once more" in sentence
    assert files.simulator.billable() == []
    (before,) = device.known
    device.init(*MAKE)
    (after,) = device.known
    assert (after.password, after.key, after.registry_id) == (
        before.password,
        before.key,
        before.registry_id,
    )
    assert files.simulator.billable() == ["storage_box morpheus-registry"]


def test_a_box_that_takes_long_is_gone_on_with(new_device: NewDevice, files: Files) -> None:
    device = new_device(create_timeout=0.3)
    files.simulator.faults.action_stuck("create", 3600)

    for words in (MAKE, ("--storagebox",)):
        code, sentence = device.refused(*words)
        assert code == 7
        assert "Storage Box morpheus-registry; last seen: create under way" in sentence
        assert "morpheus init goes on with it" in sentence
    files.simulator.advance(3601)
    told = device.init("--storagebox")

    assert told["key"] == "made"
    assert files.simulator.requests[POST] == 1


def test_who_was_killed_after_keeping_the_password_uses_that(new_device: NewDevice, files: Files) -> None:
    device = new_device()
    pending = kept.Access("a" * 32, password=founding.new_password(), key=keyring.new_key())
    kept.keep(device.data, pending)

    device.init(*MAKE)

    (access,) = device.known
    box = files.simulator.storage_boxes["morpheus-registry"]
    assert (access.password, access.key) == (pending.password, pending.key)
    assert access.password == SecretStr(box.password)
    assert box.labels["registry-id"] == "a" * 32


def test_a_closed_box_is_opened_again(new_device: NewDevice, files: Files) -> None:
    device = new_device()
    device.init(*MAKE)
    state = files.simulator.storage_boxes["morpheus-registry"]
    state.access_settings |= {"webdav_enabled": False, "ssh_enabled": True}
    device.settings.write_text(device.settings.read_text().partition("registry:")[0])

    device.init("--storagebox")

    assert state.access_settings["webdav_enabled"]
    assert state.access_settings["ssh_enabled"]


def test_of_two_devices_at_once_one_makes_the_box(files: Files, tmp_path: Path) -> None:
    files.simulator.faults.slow(POST, 0.3)
    url = f"{files.simulator.url}/v1"
    settings = HetznerSettings(token=SecretStr(files.simulator.token), api_url=url, boxes_url=url)

    def begin(folder: Path) -> object:
        there = Boxes(settings)
        try:
            return founding.found_in_box(there, founding.Nowhere(None), folder, there.offer())
        except MorpheusError as error:
            return error

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setenv("SSL_CERT_FILE", str(files.certificate))
        results = list(pool.map(begin, [tmp_path / "a", tmp_path / "b"]))

    (refused,) = [each for each in results if isinstance(each, MorpheusError)]
    assert isinstance(refused, RefusedError)
    assert "Another device has just made" in str(refused)
    assert sorted(len(kept.known(tmp_path / each)) for each in "ab") == [0, 1]
    assert files.simulator.billable() == ["storage_box morpheus-registry"]


def test_a_stranger_with_the_name_is_left_alone(new_device: NewDevice, files: Files) -> None:
    ordered_box(client_of(files.simulator), name="morpheus-registry")
    device = new_device()

    code, sentence = device.refused(*MAKE)

    assert (code, "rename it" in sentence) == (9, True)
    assert files.simulator.storage_boxes["morpheus-registry"].password == BOX_PASSWORD


def test_of_several_boxes_one_is_chosen(new_device: NewDevice, files: Files) -> None:
    device = new_device()
    device.init(*MAKE)
    other = ordered_box(client_of(files.simulator), name="older")
    other.update(labels={"managed-by": "morpheus", "purpose": "registry"})
    elsewhere = new_device()

    code, sentence = elsewhere.refused("--storagebox")
    assert code == 2
    assert all(
        each in sentence for each in ("--box", "older (bx11, fsn1, ", "morpheus-registry (bx11, fsn1, ")
    )
    assert "holds a registry" in elsewhere.refused("--storagebox", "--box", "none")[1]
    assert "morpheus-registry (" in elsewhere.refused("--storagebox", "--box", "morpheus-registry")[1]

    device.settings.write_text(device.settings.read_text().partition("registry:")[0])
    assert device.init("--storagebox")["key"] == "proven"  # its own is the one whose password is here


def test_a_token_that_may_only_read_makes_nothing(new_device: NewDevice, files: Files) -> None:
    device = new_device()

    code, sentence = device.refused(*MAKE, HETZNER_API_TOKEN=files.simulator.read_only_token)

    assert (code, "may only read" in sentence) == (2, True)
    assert sentence.endswith("Nothing was made.")
    assert "There is no API token" in device.refused(*MAKE, HETZNER_API_TOKEN="")[1]
    assert files.simulator.billable() == []
