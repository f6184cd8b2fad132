"""morpheus.example.yaml: every setting there is, with its default, and nothing else."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr

from morpheus.settings import Settings, load

EXAMPLE = Path(__file__).parents[2] / "morpheus.example.yaml"
OUT = re.compile(r"^( +)# (?=[a-z0-9_]+: )", re.MULTILINE)  # a key that is commented out


def leaves(values: BaseModel, above: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(values).model_fields:
        value = getattr(values, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def keys(raw: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, value in raw.items():
        if isinstance(value, dict):
            yield from keys(value, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def test_the_example_is_all_defaults() -> None:
    assert load({"MORPHEUS_CONFIG": str(EXAMPLE)}) == Settings()


def test_the_example_names_every_key_in_order() -> None:
    raw = yaml.safe_load(OUT.sub(r"\1", EXAMPLE.read_text()))

    assert list(keys(raw)) == [key for key, _ in leaves(Settings())]


def test_only_secrets_and_addresses_are_commented_out() -> None:
    shown = set(keys(yaml.safe_load(EXAMPLE.read_text())))

    left_out = {key: value for key, value in leaves(Settings()) if key not in shown}

    assert set(left_out) == {
        "registry.url",
        "registry.password",
        "machine.hetzner.token",
        "integration.nimsforest_download_url",
    }
    assert set(left_out.values()) == {None}


def test_the_example_can_be_used_with_all_that_is_commented_out(tmp_path: Path) -> None:
    path = tmp_path / "morpheus.yaml"
    path.write_text(OUT.sub(r"\1", EXAMPLE.read_text()))
    environment = {"MORPHEUS_CONFIG": str(path), "STORAGEBOX_PASSWORD": "box", "HETZNER_API_TOKEN": "token"}

    loaded = load(environment)

    assert (loaded.registry.password, loaded.machine.hetzner.token) == (SecretStr("box"), SecretStr("token"))


def test_every_key_has_a_comment() -> None:
    lines = OUT.sub(r"\1", EXAMPLE.read_text()).splitlines()

    assert [line for line in lines if re.match(r" +[a-z0-9_]+: \S", line) and "  # " not in line] == []
