"""Where the secrets of a forest are once it was planted: where they have to be, and nowhere else."""

import base64
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect import flow
from prefect.artifacts import create_markdown_artifact

from morpheus import kept
from morpheus.cli.temporary import Temporary
from morpheus.machine import WORKLOAD, places
from tests.hosts.forests.conftest import settings
from tests.hosts.forests.listening import heard, watched
from tests.hosts.forests.stands import Stand, standing
from tests.lab import Host, Lab

pytestmark = pytest.mark.root

CANARY = "a-canary-for-who-seeks-secrets"
BIRTH = "birth host key"


@dataclass
class Planting:
    """A forest, and what could be learnt while it was planted."""

    stand: Stand
    prefect: Path
    logs: list[str]
    commands: set[str]

    @property
    def host(self) -> Host:
        return self.stand.hosts[0]


@pytest.fixture(scope="module")
def planting(lab: Lab, prefect: Temporary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planting]:
    """One node with a workload and open to clients, so that every secret is in use."""
    folder = tmp_path_factory.mktemp("secrets")
    given = settings("debian-13", folder)
    given |= {"firewall": {"nats": ["::/0"]}}
    with heard() as logs, watched() as commands, standing(lab, folder / "home", 7, 1, given) as stand:
        planting = Planting(stand, prefect.folder, logs, commands)
        stand.plant()  # the second time is another code path
        planting.host.run(["sh", "-c", f": {CANARY}; sleep 0.1; logger {CANARY}"])
        tell()
        yield planting


@flow
def tell() -> None:
    create_markdown_artifact(CANARY)


@pytest.fixture(scope="module")
def secrets(planting: Planting) -> Mapping[str, str]:
    """A piece of each secret that stands in one line wherever the secret stands."""
    known = planting.stand.secrets
    (registry,) = kept.known(planting.stand.home.folder / "data")
    assert registry.key
    return {
        "application's nkey": known.access.app_seed,
        "system's nkey": known.access.system_seed,
        "password of routes": known.access.route_password,
        "password of clients": known.client_password,
        "authority's key": known.authority.key.splitlines()[1],
        "forest's SSH key": private_line(known.ssh_key),
        "birth seed": base64.b64encode(known.birth_seed).decode(),
        "registry's key": registry.key.get_secret_value(),
        "API token": planting.stand.simulator.token,
        BIRTH: private_line(known.birth_key(planting.host.name).private),
    }


def private_line(key: str) -> str:
    """The line of an OpenSSH key's text that holds its private half; the first ones are public."""
    return key.splitlines()[4]


def found(secrets: Mapping[str, str], texts: Iterable[str]) -> set[str]:
    """The names of the secrets that stand in *texts*."""
    everything = "\n".join(texts)
    return {name for name, secret in secrets.items() if secret in everything}


def changed_files(host: Host) -> Iterator[tuple[str, str]]:
    """Path and content of every file that the disk of *host* has beyond its base system."""
    upper = host.disk.folder / "changes/upper"
    for path in sorted(each for each in upper.rglob("*") if each.is_file() and not each.is_symlink()):
        yield f"/{path.relative_to(upper)}", path.read_bytes().decode("utf-8", "replace")


def dumped(folder: Path) -> Iterator[str]:
    """Everything that Prefect's server keeps: its database as SQL, and its files as they are."""
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        yield path.read_bytes().decode("utf-8", "replace")
        if path.suffix == ".db":
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                yield from database.iterdump()
            database.close()


def test_user_data_holds_the_birth_host_key_alone(planting: Planting, secrets: Mapping[str, str]) -> None:
    (server,) = planting.stand.simulator.servers.values()

    assert found(secrets, [server.user_data]) == {BIRTH}


def test_the_registry_holds_none(planting: Planting, secrets: Mapping[str, str]) -> None:
    folder = planting.stand.home.folder / "data"
    texts = [path.read_text() for path in folder.rglob("*") if path.is_file() and path != kept.path(folder)]

    assert planting.stand.forest.node("oak-node-1").metadata["host_key"] in "\n".join(texts)
    assert found(secrets, texts) == set()


def test_logs_hold_none(planting: Planting, secrets: Mapping[str, str]) -> None:
    assert any("oak-node-1: entered" in line for line in planting.logs)
    assert any(line.startswith("prefect") for line in planting.logs)
    assert found(secrets, planting.logs) == set()


def test_prefect_holds_none(planting: Planting, secrets: Mapping[str, str]) -> None:
    texts = list(dumped(planting.prefect))

    there = {"canary": CANARY, "run": "plant-oak", "task": "take-host-key-oak-node-1"}
    assert found(there, texts) == {*there}
    assert found(secrets, texts) == set()


def test_no_process_was_told_one_on_its_command_line(planting: Planting, secrets: Mapping[str, str]) -> None:
    there = {"canary": CANARY, "server": places.NATS_SERVER, "keys": "ssh-keygen"}
    assert found(there, planting.commands) == {*there}
    assert found(secrets, planting.commands) == set()


def test_the_journal_of_the_machine_holds_none(planting: Planting, secrets: Mapping[str, str]) -> None:
    journal = planting.host.run(["journalctl", "--no-pager", "-o", "export"]).stdout

    assert CANARY in journal
    assert found(secrets, [journal]) == set()


def test_the_machine_has_those_it_needs_in_files_of_those_who_need_them(
    planting: Planting, secrets: Mapping[str, str]
) -> None:
    sought = {**secrets, "canary": CANARY}
    where: dict[str, list[str]] = {name: [] for name in sought}
    for path, content in changed_files(planting.host):
        for name in found(sought, [content]):
            where[name].append(path)

    assert where.pop("canary")
    born = where.pop(BIRTH)
    assert all(path.startswith("/var/lib/cloud/") for path in born), born
    assert {name: paths for name, paths in where.items() if paths} == {
        "password of clients": [places.environment_file(WORKLOAD)]
    }
    modes = planting.host.run(["stat", "-c", "%a %U", places.environment_file(WORKLOAD), places.KEY]).stdout
    assert modes == "600 root\n640 root\n"


def test_nodes_of_a_cluster_know_the_password_of_routes_and_no_more(new: Stand) -> None:
    host, access = new.hosts[0], new.secrets.access

    holding = [path for path, content in changed_files(host) if access.route_password in content]

    assert holding == [places.LAYOUT.cluster]
    assert host.run(["stat", "-c", "%a %U %G", places.LAYOUT.cluster]).stdout == "640 root nats\n"
