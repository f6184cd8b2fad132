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

from blocks import (
    HetznerBlock,
    LocalRegistry,
    S3Registry,
    SecretKeyBlock,
    StorageBoxRegistry,
    open_place,
    open_registry,
    open_vault,
)
from deployments import register
from morpheus import keyring
from morpheus.errors import InvalidInputError, RefusedError
from morpheus.forest import Forest
from morpheus.secrets import KeyPair
from morpheus.vault import Vault

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


def test_a_stored_key_opens_the_vault_of_a_stored_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MORPHEUS_DATA_DIR", str(tmp_path / "data"))
    for name in ("of-all", "another"):
        SecretKeyBlock(key=keyring.new_key()).save(name, overwrite=True)
    LocalRegistry(path=tmp_path / "there" / "registry").save("sealing", overwrite=True)
    slug = "local-registry/sealing"
    oak = Forest("oak", "hetzner", status="provisioning", run="run-1")
    open_registry(slug, "fake").update(lambda document, _: document.with_forest(oak))

    made = open_vault(slug, "secret-key/of-all", lambda _: KeyPair("certificate", "key"))
    known = made.ensure(oak, newborn=True)

    assert open_vault(slug, "secret-key/of-all").open(oak) == known
    with pytest.raises(RefusedError, match="not the one that the registry"):
        open_vault(slug, "secret-key/another")
    with pytest.raises(RefusedError, match="not on this device"):
        open_vault(slug)
    Vault(open_place(slug)).delete(oak)
    assert open_vault(slug, "secret-key/of-all").find(oak) is None


@pytest.mark.parametrize(
    ("slug", "sentence"),
    [("local-registry/grey", "is no key"), ("secret-key/short", "is no key: it must be")],
)
def test_what_is_no_key_is_refused(slug: str, sentence: str, tmp_path: Path) -> None:
    LocalRegistry(path=tmp_path / "registry.json").save("grey", overwrite=True)
    SecretKeyBlock(key=SecretStr("c2hvcnQ=")).save("short", overwrite=True)

    with pytest.raises(InvalidInputError, match=sentence) as refused:
        open_vault("local-registry/grey", slug)

    assert "c2hvcnQ" not in str(refused.value)
    assert not (tmp_path / "registry.json").exists()


def test_a_stored_key_is_not_shown() -> None:
    key = keyring.new_key()
    SecretKeyBlock(key=key).save("quiet", overwrite=True)

    assert key.get_secret_value() not in repr(Block.load("secret-key/quiet"))


@pytest.mark.parametrize(
    "block", [HetznerBlock, LocalRegistry, StorageBoxRegistry, S3Registry, SecretKeyBlock]
)
class TestBlocks(BlockStandardTestSuite):
    """Prefect's own demands on blocks, but for the one on logos: ours have none."""

    test_has_a_valid_image = None  # type: ignore[assignment]  # so that nothing is skipped

    @pytest.fixture
    def block(self, block: type[Block]) -> type[Block]:
        return block
