"""The secrets of a forest as a value, as JSON, and as SSH keys."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from hypothesis import given
from hypothesis import strategies as st

from morpheus import openssh, secrets
from morpheus.errors import RefusedError
from morpheus.secrets import ForestSecrets
from tests.vault.sample import some_secrets, told_by

SAMPLE = some_secrets()
words = st.text(min_size=1)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(words, words, st.none() | words, st.binary(min_size=32, max_size=32))
def test_json_brings_back_what_it_was_made_of(
    client: str, key: str, subaccount: str | None, seed: bytes
) -> None:
    known = replace(
        SAMPLE,
        client_password=client,
        authority=replace(SAMPLE.authority, key=key),
        subaccount_password=subaccount,
        birth_seed=seed,
    )

    assert secrets.parse(secrets.render(known)) == known


@given(st.dictionaries(st.text().filter(lambda name: name not in json.loads(secrets.render(SAMPLE))), values))
def test_fields_of_others_survive_a_change(more: dict[str, Any]) -> None:
    raw = json.loads(secrets.render(SAMPLE))
    raw |= more
    raw["access"]["leaf_seed"] = raw["authority"]["serial"] = "later"

    changed = replace(secrets.parse(json.dumps(raw)), subaccount_password="new")

    assert json.loads(secrets.render(changed)) == raw | {"subaccount_password": "new"}


def refused(text: str) -> None:
    """It is, and nothing of it is quoted."""
    with pytest.raises(RefusedError) as told:
        secrets.parse(text)

    said = f"{told.value!r} {told.value.__cause__!r}"
    assert not [each for each in told_by(SAMPLE) if each in said]
    assert told.value.__suppress_context__ or told.value.__context__ is None


FIELDS = ("version", "access", "client_password", "authority", "ssh_key", "birth_seed")


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [None, 7, [], {}, "", True, "c2hvcnQ="], ids=repr)
def test_a_field_of_another_kind_is_refused(name: str, value: Any) -> None:
    if (name, value) != ("client_password", "c2hvcnQ="):
        refused(json.dumps(json.loads(secrets.render(SAMPLE)) | {name: value}))


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_lacks_is_refused(name: str) -> None:
    raw = json.loads(secrets.render(SAMPLE))
    del raw[name]

    refused(json.dumps(raw))


@pytest.mark.parametrize("text", ["", "[]", "null", "7", '"', "[" * 100_000], ids=len)
def test_what_is_no_object_is_refused(text: str) -> None:
    refused(text)


def test_a_newer_format_asks_for_an_update() -> None:
    with pytest.raises(RefusedError, match="update this one"):
        secrets.parse(json.dumps({"version": 2, "all": "different"}))


def test_nothing_is_shown_by_repr() -> None:
    shown = f"{SAMPLE!r} {SAMPLE} {SAMPLE.authority!r} {SAMPLE.birth_key('oak-node-1')!r} {[SAMPLE]}"

    assert not [each for each in (*told_by(SAMPLE), "PRIVATE KEY") if each in shown]


def test_no_two_forests_have_anything_in_common() -> None:
    one, other = some_secrets(), some_secrets()

    assert not {*told_by(one)} & {*told_by(other)} - {one.authority.key}


# Keys of SSH


def asked(folder: Path, private: str) -> str:
    """The public half as ssh-keygen finds it in a file."""
    file = folder / "key"
    file.touch(mode=0o600)
    file.write_text(private)
    done = subprocess.run(
        ["ssh-keygen", "-y", "-P", "", "-f", str(file)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("k", range(5))
def test_openssh_understands_every_key(k: int, tmp_path: Path) -> None:
    known = some_secrets()
    birth = known.birth_key(f"oak-node-{k}")

    assert asked(tmp_path, known.ssh_key) == known.ssh_public
    assert asked(tmp_path, birth.private) == birth.public


@given(st.binary(min_size=32, max_size=32))
def test_a_seed_makes_one_key_and_one_text(seed: bytes) -> None:
    key = openssh.from_seed(seed)

    assert openssh.from_seed(seed).private == key.private
    assert openssh.public_line(key.private) == key.public
    assert load_ssh_private_key(key.private.encode(), None).private_bytes_raw() == seed  # type: ignore[union-attr]


def test_a_birth_key_is_the_same_on_every_device_and_another_for_every_node_and_forest() -> None:
    brought: ForestSecrets = secrets.parse(secrets.render(SAMPLE))
    nodes = [f"oak-node-{k}" for k in range(1, 6)]

    keys = [SAMPLE.birth_key(node).private for node in nodes]

    assert keys == [brought.birth_key(node).private for node in nodes]
    assert len({*keys, some_secrets().birth_key(nodes[0]).private}) == 6


def test_a_birth_key_is_never_derived_otherwise() -> None:
    """Machines that are being born know it: another derivation would lock everybody out."""
    known = replace(SAMPLE, birth_seed=bytes(range(32)))

    assert known.birth_key("oak-node-1").public == (
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDnWkKs86C4RfDS5FFihImueFGN5hmerKlmoTan4KsHY"
    )
