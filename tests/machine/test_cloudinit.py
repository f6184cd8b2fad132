"""The user data of a machine: golden files, nothing in a value becomes a part of it, and no secrets."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from morpheus.errors import InvalidInputError
from morpheus.machine import cloudinit, places
from morpheus.machine.cloudinit import MAX_BYTES, Birth, Resources
from tests.machine.births import BIRTHS, LIMITED, PRIVATE, PUBLIC, birth

GOLDEN = Path(__file__).parent / "golden"


def told(birth: Birth) -> Mapping[str, Any]:
    """What cloud-init reads."""
    text = cloudinit.render(birth)
    assert text.startswith("#cloud-config\n")
    return dict(yaml.safe_load(text))


def file(birth: Birth, path: str) -> str:
    return next(str(each["content"]) for each in told(birth)["write_files"] if each["path"] == path)


@pytest.mark.parametrize("kind", BIRTHS)
def test_the_user_data_is_the_golden_one(kind: str) -> None:
    assert cloudinit.render(BIRTHS[kind]) == (GOLDEN / f"{kind}.yaml").read_text()


@given(
    key=st.text(),
    public=st.text(),
    keys=st.lists(st.text(), min_size=1, max_size=3),
    role=st.text(),
    location=st.text(min_size=1),
)
def test_nothing_in_a_value_becomes_a_part_of_the_document(
    key: str, public: str, keys: list[str], role: str, location: str
) -> None:
    plain = told(BIRTHS["nats"])
    odd = replace(
        BIRTHS["nats"],
        host_key=key,
        host_key_public=public,
        authorized_keys=tuple(keys),
        role=role,
        location=location,
    )

    read = told(odd)

    assert read["ssh_keys"] == {"ed25519_private": key, "ed25519_public": public}
    assert read["ssh_authorized_keys"] == keys
    assert json.loads(file(odd, places.NODE_INFO))["location"] == location
    same = set(plain) - {"ssh_keys", "ssh_authorized_keys", "write_files"}
    assert {name: read[name] for name in same} == {name: plain[name] for name in same}
    assert list(read) == list(plain)
    assert [each["path"] for each in read["write_files"]] == [each["path"] for each in plain["write_files"]]


@given(forest=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?", fullmatch=True), k=st.integers(1, 9999999))
def test_every_name_of_a_forest_and_a_node_is_told_as_it_is(forest: str, k: int) -> None:
    born = replace(BIRTHS["workload"], forest=forest, node=f"{forest}-node-{k}")

    info = json.loads(file(born, places.NODE_INFO))

    assert told(born)["hostname"] == info["node_id"] == f"{forest}-node-{k}"
    assert info["forest_id"] == forest
    assert f"\nEnvironment=FOREST_ID={forest}\n" in file(born, "/etc/systemd/system/nimsforest.service")


def test_the_machine_knows_who_it_is() -> None:
    assert json.loads(file(BIRTHS["nats"], "/etc/morpheus/node-info.json")) == {
        "forest_id": "oak",
        "node_id": "oak-node-1",
        "role": "node",
        "provider": "hetzner",
        "location": "fsn1",
        "created_at": "2026-08-01T12:00:00+00:00",
    }


def test_the_store_is_marked_as_this_nodes() -> None:
    marker = json.loads(file(BIRTHS["nats"], places.LAYOUT.marker))

    assert marker["node"] == "oak-node-1"
    assert datetime.fromisoformat(marker["created"]) == BIRTHS["nats"].created_at


def test_every_folder_that_is_promised_is_made() -> None:
    promised = {"/opt/nimsforest/bin", "/var/lib/nimsforest/data", "/var/lib/nimsforest/jetstream"}
    promised |= {"/var/log/nimsforest", "/etc/nimsforest", "/etc/nimsforest/tls"}

    for kind in BIRTHS.values():
        made = {each[-1] for each in told(kind)["runcmd"] if each[:2] == ["install", "-d"]}
        assert promised <= made


def test_nothing_is_downloaded_started_or_waited_for() -> None:
    for kind in BIRTHS.values():
        text = cloudinit.render(kind)
        read = told(kind)

        assert not {"packages", "apt", "snap", "power_state"} & set(read)
        assert (read["package_update"], read["package_upgrade"]) == (False, False)
        assert not [
            word for word in ("curl", "wget", "--wait", "enable", "apt-get") if word in str(read["runcmd"])
        ]
        assert "http://" not in text


def test_only_what_is_installed_has_a_unit() -> None:
    have = {
        kind: [path.rpartition("/")[2] for path in cloudinit.units(birth)] for kind, birth in BIRTHS.items()
    }

    assert have == {
        "nats": ["nats.service", "nats-log.service"],
        "workload": ["nats.service", "nats-log.service", "nimsforest.service"],
        "embedded": ["nimsforest.service"],
        "bare": [],
    }


def test_the_birth_host_key_is_the_only_secret_and_never_shown() -> None:
    text = cloudinit.render(BIRTHS["workload"])

    assert told(BIRTHS["workload"])["ssh_keys"] == {"ed25519_private": PRIVATE, "ed25519_public": PUBLIC}
    assert text.count("PRIVATE KEY") == 2
    assert "PRIVATE KEY" not in repr(BIRTHS["workload"])
    rest = text.replace(PUBLIC, "").partition("ssh_authorized_keys")[2].lower()
    assert not [word for word in ("password:", "seed", "nkey", "token") if word in rest]


def test_keys_alone_open_the_machine() -> None:
    read = told(BIRTHS["nats"])

    assert (read["ssh_pwauth"], read["disable_root"], read["ssh_deletekeys"]) == (False, False, True)
    assert read["ssh_genkeytypes"] == ["ed25519"]
    assert "PasswordAuthentication no" in file(BIRTHS["nats"], "/etc/ssh/sshd_config.d/10-morpheus.conf")


@pytest.mark.parametrize(("port", "lines"), [(22, 0), (2222, 1)])
def test_ssh_listens_on_another_port_where_that_is_wanted(port: int, lines: int) -> None:
    born = birth(port=port)

    assert file(born, "/etc/ssh/sshd_config.d/10-morpheus.conf").count("\nPort 2222\n") == lines
    assert told(born)["runcmd"].count(["systemctl", "try-restart", "ssh.socket"]) == lines


@pytest.mark.parametrize(
    ("resources", "lines"),
    [
        (Resources(), []),
        (LIMITED, ["Environment=GOMEMLIMIT=1382MiB", "CPUQuota=200%", "MemoryHigh=1.5G", "MemoryMax=2G"]),
        (Resources(memory_max="512M"), ["Environment=GOMEMLIMIT=460MiB", "MemoryMax=512M"]),
        (Resources(memory_high="1073741824"), ["Environment=GOMEMLIMIT=921MiB", "MemoryHigh=1073741824"]),
    ],
)
def test_the_servers_unit_has_the_limits_that_were_set(resources: Resources, lines: list[str]) -> None:
    unit = file(birth(resources=resources), "/etc/systemd/system/nats.service").splitlines()

    words = ("Environment=GOMEMLIMIT", "CPUQuota", "Memory")
    found = [line for line in unit if line.startswith(words) and not line.startswith("MemoryDeny")]
    assert found == lines


@pytest.mark.parametrize("node", ["oak-node-0", "oak", "elm-node-1", "oak-node-1\n", "oak-node-1; reboot"])
def test_a_name_that_is_no_node_of_the_forest_is_refused(node: str) -> None:
    with pytest.raises(InvalidInputError, match="no node of oak"):
        replace(BIRTHS["nats"], node=node)


def test_a_machine_that_nobody_could_enter_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least one SSH key"):
        replace(BIRTHS["nats"], authorized_keys=())


def test_what_a_cloud_would_not_take_is_refused_with_what_to_do() -> None:
    crowd = tuple(f"{PUBLIC} user-{k}" for k in range(300))

    with pytest.raises(InvalidInputError, match=f"less than {MAX_BYTES}: let fewer SSH keys in"):
        cloudinit.render(replace(BIRTHS["nats"], authorized_keys=crowd))


@pytest.mark.parametrize("kind", BIRTHS)
def test_there_is_room_for_a_hundred_keys(kind: str) -> None:
    many = tuple(f"{PUBLIC} user-{k}" for k in range(100))

    assert len(cloudinit.render(replace(BIRTHS[kind], authorized_keys=many)).encode()) < MAX_BYTES
