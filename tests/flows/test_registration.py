"""What Prefect shows of us: forms, deployments and blocks."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.blocks.core import Block
from prefect.flows import load_flow_from_entrypoint
from prefect.testing.standard_test_suites.blocks import BlockStandardTestSuite
from prefect.utilities.callables import parameter_schema
from pydantic import SecretStr

from blocks import HetznerBlock, LocalRegistry, S3Registry, StorageBoxRegistry, open_registry
from deployments import register
from morpheus.errors import InvalidInputError

ENTRIES: list[dict[str, Any]] = yaml.safe_load(register.prefect_file().read_text())["deployments"]


def flow_of(entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Flow[..., Any]:
    monkeypatch.chdir(register.root())  # where a worker runs
    return load_flow_from_entrypoint(entry["entrypoint"])


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["name"])
def test_an_entrypoint_is_a_flow_whose_form_explains_itself(
    entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = flow_of(entry, monkeypatch)

    schema = parameter_schema(flow)
    assert flow.description
    assert [name for name, field in schema.properties.items() if not field.get("description")] == []
    assert schema.required == []  # runs with no parameters at all
    assert set(entry.get("parameters", {})) <= set(schema.properties)


@pytest.mark.parametrize("name", ["local", "cloud"])
def test_the_form_of_plant_bounds_what_can_be_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = next(each for each in ENTRIES if each["name"] == name)

    fields = parameter_schema(flow_of(entry, monkeypatch)).properties

    size, nodes = choices(fields["size"]), choices(fields["nodes"])
    assert size["enum"] == ["small", "medium", "large"]
    assert (nodes["type"], nodes["minimum"], nodes["maximum"]) == ("integer", 1, 100)


def test_one_scheduled_check_runs_at_a_time_and_another_one_is_dropped() -> None:
    (scheduled,) = [each for each in ENTRIES if each["name"] == "scheduled"]

    assert scheduled["entrypoint"] == "flows/grow_check.py:grow_check"
    assert scheduled["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    assert [(each["interval"], each["active"]) for each in scheduled["schedules"]] == [(300, True)]


def choices(field: dict[str, Any]) -> dict[str, Any]:
    """What may be given, apart from nothing."""
    chosen: dict[str, Any] = next(each for each in field["anyOf"] if each.get("type") != "null")
    return chosen


def test_the_names_of_the_deployments_are_those_of_their_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert register.names() == [f"{flow_of(entry, monkeypatch).name}/{entry['name']}" for entry in ENTRIES]


def test_a_stored_registry_is_opened_by_its_slug(tmp_path: Path) -> None:
    LocalRegistry(path=tmp_path / "registry.json").save("shared", overwrite=True)

    registry = open_registry("local-registry/shared", "fake")

    assert registry.url == (tmp_path / "registry.json").as_uri()


def test_a_stored_registry_of_another_device_keeps_its_password_to_itself() -> None:
    url = "https://u1.example/forests/"
    StorageBoxRegistry(url=url, username="u1", password=SecretStr("hidden")).save("box", overwrite=True)

    assert open_registry("storagebox-registry/box", "fake").url == f"{url}registry.json"

    stored = Block.load("storagebox-registry/box")
    assert "hidden" not in repr(stored)


def test_a_block_of_another_kind_is_no_registry() -> None:
    class Pebble(Block):
        """Something else."""

        _block_type_slug = "pebble"

    Pebble().save("grey", overwrite=True)

    with pytest.raises(InvalidInputError, match="is no registry"):
        open_registry("pebble/grey", "fake")


@pytest.mark.parametrize("block", [HetznerBlock, LocalRegistry, StorageBoxRegistry, S3Registry])
class TestBlocks(BlockStandardTestSuite):
    """Prefect's own demands on blocks, but for the one on logos: ours have none."""

    test_has_a_valid_image = None  # type: ignore[assignment]  # so that nothing is skipped

    @pytest.fixture
    def block(self, block: type[Block]) -> type[Block]:
        return block
