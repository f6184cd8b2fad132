"""Storage boxes and their subaccounts, with the real client."""

import hcloud
import pytest
from hcloud import APIException
from hcloud.locations import Location
from hcloud.storage_box_types import StorageBoxType
from hcloud.storage_boxes import (
    StorageBoxAccessSettings,
    StorageBoxSnapshotPlan,
    StorageBoxSubaccountAccessSettings,
)

from tests.simulator import Simulator
from tests.simulator.clients import BOX_PASSWORD, client_of, ordered_box


def test_a_box_has_neither_user_nor_host_while_it_initializes() -> None:
    simulator = Simulator()
    with simulator.running():
        client = client_of(simulator)
        created = client.storage_boxes.create(
            name="registry",
            password=BOX_PASSWORD,
            location=Location(name="fsn1"),
            storage_box_type=StorageBoxType(name="bx11"),
        )
        box = created.storage_box
        assert (box.status, box.username, box.server) == ("initializing", None, None)
        assert simulator.billable() == ["storage_box registry"]
        simulator.advance(21)

        action = client.actions.get_by_id(created.action.id)
        box.reload()

    assert (action.command, action.status) == ("create", "success")
    assert box.server == f"{box.username}.storagebox.invalid"
    settings = box.access_settings
    assert settings
    assert settings.reachable_externally is settings.webdav_enabled is False


@pytest.mark.parametrize(
    "password",
    ["Short-1", "no-upper-case-7", "NO-LOWER-CASE-7", "No-digit-at-all", "NoSpecial12345", "Tab\t-in-it-77"],
)
def test_passwords_have_a_policy(client: hcloud.Client, password: str) -> None:
    with pytest.raises(APIException) as failed:
        ordered_box(client, password=password)

    assert failed.value.code == "invalid_input"


def test_settings_are_changed_in_part(simulator: Simulator, client: hcloud.Client) -> None:
    box = ordered_box(client)

    box.update_access_settings(StorageBoxAccessSettings(webdav_enabled=False)).wait_until_finished()
    box.reset_password(f"{BOX_PASSWORD}8").wait_until_finished()

    state = simulator.storage_boxes["registry"]
    assert state.password == f"{BOX_PASSWORD}8"
    assert state.access_settings["reachable_externally"]
    assert not state.access_settings["webdav_enabled"]


def test_names_of_boxes_are_unique(client: hcloud.Client) -> None:
    ordered_box(client)

    with pytest.raises(APIException) as failed:
        ordered_box(client)

    assert failed.value.code == "uniqueness_error"


def test_a_new_subaccount_shows_its_ids_alone(client: hcloud.Client) -> None:
    box = ordered_box(client)
    created = box.create_subaccount(
        home_directory="forests",
        password=BOX_PASSWORD,
        access_settings=StorageBoxSubaccountAccessSettings(webdav_enabled=True, readonly=False),
    )
    created.action.wait_until_finished()
    account = created.subaccount
    assert account.data_model.username is None

    account.reload()

    assert account.username == f"{box.username}-sub1"
    assert account.server == f"{account.username}.storagebox.invalid"
    account.reset_password(f"{BOX_PASSWORD}9").wait_until_finished()
    account.change_home_directory("others").wait_until_finished()
    account.update_access_settings(StorageBoxSubaccountAccessSettings(readonly=True)).wait_until_finished()
    assert [each.home_directory for each in box.get_subaccount_all()] == ["others"]
    assert box.get_subaccount_by_username(account.username or "")
    account.delete().action.wait_until_finished()
    assert box.get_subaccount_all() == []


def test_going_back_to_a_snapshot_loses_the_newer_ones(simulator: Simulator, client: hcloud.Client) -> None:
    box = ordered_box(client)
    snapshots = []
    for _ in range(3):
        created = box.create_snapshot()
        created.action.wait_until_finished()
        snapshots.append(created.snapshot)
        simulator.advance(1)

    box.rollback_snapshot(snapshots[1]).wait_until_finished()
    box.enable_snapshot_plan(StorageBoxSnapshotPlan(max_snapshots=3, hour=3, minute=0)).wait_until_finished()
    box.reload()

    assert [each.id for each in box.get_snapshot_all()] == [each.id for each in snapshots[:2]]
    assert box.snapshot_plan
    assert box.snapshot_plan.hour == 3


def test_boxes_are_protected_and_deleted(simulator: Simulator, client: hcloud.Client) -> None:
    box = ordered_box(client)
    box.change_protection(delete=True).wait_until_finished()
    with pytest.raises(APIException) as failed:
        box.delete()
    assert failed.value.code == "protected"
    box.change_protection(delete=False).wait_until_finished()

    box.delete().action.wait_until_finished()

    assert simulator.storage_boxes == {}
    assert simulator.billable() == []
