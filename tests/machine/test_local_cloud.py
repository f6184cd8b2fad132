"""A cloud of folders: what another writer, host or crash left is not taken for ours, nor deleted."""

import json
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from morpheus.cloud import Order, Server
from morpheus.cloud.local import LocalCloud
from morpheus.errors import InvalidInputError, MachineError, PortTakenError, RefusedError
from morpheus.forest import Ports
from morpheus.machine import NATS, WORKLOAD, Program, StoreState, processes
from morpheus.machine.limits import MIB, Limits
from tests.machine.conftest import wait_for

ORDER = Order("oak-node-1", "oak", "ours", "run")


@pytest.fixture
def cloud(tmp_path: Path, first: Ports) -> Iterator[LocalCloud]:
    cloud = LocalCloud(tmp_path, first=first)
    yield cloud
    for name in (NATS, WORKLOAD):
        processes.stop(tmp_path / "forests" / "oak" / "oak-node-1", name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "forests" / "oak" / "oak-node-1"


@pytest.fixture
def server(cloud: LocalCloud) -> Server:
    return cloud.ensure_server(ORDER)


def nats(cloud: LocalCloud, server: Server, nats_server: str) -> Program:
    """A server with JetStream on the ports of *server*."""
    layout, port = cloud.machine(server).layout, server.metadata["client_port"]
    argv = (nats_server, "-a", "127.0.0.1", "-p", port, "-js", "-sd", layout.store, "-l", layout.log)
    return Program(NATS, argv, ports=(int(port),))


def run_once(cloud: LocalCloud, server: Server, nats_server: str) -> None:
    cloud.machine(server).start(nats(cloud, server, nats_server))
    cloud.machine(server).stop(NATS)


def test_jetstream_gets_what_is_configured_or_what_fits_once_and_for_all(
    tmp_path: Path, first: Ports, caplog: pytest.LogCaptureFixture
) -> None:
    small = LocalCloud(tmp_path, first=first, wanted=Limits(20 * MIB, 80 * MIB)).ensure_server(ORDER)
    assert caplog.messages == []
    greedy = LocalCloud(tmp_path, first=first, wanted=Limits(2**50, 2**60))
    large = greedy.ensure_server(replace(ORDER, name="oak-node-2"))

    recorded = {key: int(small.metadata[key]) for key in ("jetstream_memory", "jetstream_file")}
    assert recorded == {"jetstream_memory": 20 * MIB, "jetstream_file": 80 * MIB}
    assert 0 < int(large.metadata["jetstream_memory"]) < psutil.virtual_memory().total
    (said,) = caplog.messages
    assert said.startswith("oak-node-2: JetStream gets ")
    assert "less than configured: that is what fits on this machine" in said
    assert greedy.ensure_server(ORDER).metadata == small.metadata


def edit(folder: Path, **metadata: Any) -> None:
    file = folder / "server.json"
    raw = json.loads(file.read_text())
    raw["metadata"] |= metadata
    file.write_text(json.dumps(raw))


def test_a_store_that_a_server_wrote_to_is_held(cloud: LocalCloud, server: Server, nats_server: str) -> None:
    run_once(cloud, server, nats_server)

    assert cloud.store(server) is StoreState.HELD


@pytest.mark.parametrize("part", [".", "store", "store/jetstream", "store/jetstream/APP"])
def test_a_wiped_store_is_gone(
    cloud: LocalCloud, server: Server, folder: Path, nats_server: str, part: str
) -> None:
    run_once(cloud, server, nats_server)
    wiped = folder / part

    shutil.rmtree(wiped) if wiped.is_dir() else wiped.unlink()

    assert cloud.store(server) is StoreState.GONE


def test_a_marker_that_cannot_be_read_is_no_marker(cloud: LocalCloud, server: Server, folder: Path) -> None:
    for text in ("", "{", "[]", "null", '"oak-node-1"', "{}"):
        Path(cloud.machine(server).layout.marker).write_text(text)

        assert cloud.store(server) is StoreState.GONE


def test_a_start_that_found_its_port_taken_loses_no_store(
    cloud: LocalCloud, server: Server, first: Ports, nats_server: str
) -> None:
    with socket.create_server(("127.0.0.1", first.client)), pytest.raises(PortTakenError):
        cloud.machine(server).start(nats(cloud, server, nats_server))

    assert cloud.store(server) is not StoreState.GONE


def test_deleting_stops_every_program_and_removes_the_folders(
    cloud: LocalCloud, server: Server, folder: Path
) -> None:
    for name in (NATS, WORKLOAD):
        cloud.machine(server).start(Program(name, ("/bin/sh", "-c", "sleep 600 & wait")))
    running = [processes.find(folder, name) for name in (NATS, WORKLOAD)]

    cloud.delete_server("ours", server.name)

    assert all(running)
    assert not any(process and processes.is_running(process) for process in running)
    assert not folder.parent.exists()


def test_deleting_stops_a_program_whose_folder_is_gone(
    cloud: LocalCloud, server: Server, folder: Path
) -> None:
    cloud.machine(server).start(Program(NATS, ("/bin/sleep", "600")))
    running = processes.find(folder, NATS)
    shutil.rmtree(folder)

    cloud.delete_server("ours", server.name)

    assert running is not None
    wait_for(lambda: not processes.is_running(running))


def test_of_a_linked_folder_the_link_goes_and_what_it_leads_to_stays(
    cloud: LocalCloud, server: Server, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    cloud.machine(server).start(Program(NATS, ("/bin/sleep", "600")))
    running = processes.find(folder, NATS)

    cloud.delete_server("ours", server.name)

    assert running is not None
    assert not processes.is_running(running)
    assert (elsewhere / "server.json").exists()
    assert (elsewhere / "store").is_dir()
    assert not folder.parent.exists()
    assert str(elsewhere) in caplog.text


def test_a_link_that_leads_nowhere_is_removed(cloud: LocalCloud, server: Server, folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to("nowhere")

    cloud.delete_server("ours", server.name)

    assert not folder.parent.exists()


def test_a_linked_store_stays_where_it_is(
    cloud: LocalCloud, server: Server, folder: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (folder / "store").rename(elsewhere)
    (folder / "store").symlink_to(elsewhere)

    cloud.delete_server("ours", server.name)

    assert not folder.parent.exists()
    assert list(elsewhere.iterdir())


def test_an_interrupted_deletion_is_finished_by_the_next(
    cloud: LocalCloud, server: Server, folder: Path
) -> None:
    (folder / "server.json").unlink()

    cloud.delete_server("ours", server.name)

    assert not folder.exists()


def test_an_interrupted_creation_is_finished_by_the_next(
    cloud: LocalCloud, server: Server, folder: Path
) -> None:
    (folder / "server.json").unlink()

    again = cloud.ensure_server(ORDER)

    assert cloud.store(again) is StoreState.FRESH


def test_data_that_nothing_names_is_neither_used_nor_removed(
    cloud: LocalCloud, server: Server, folder: Path
) -> None:
    cloud.machine(server).put(f"{cloud.machine(server).layout.data}/msgs", b"acknowledged")
    (folder / "server.json").unlink()

    with pytest.raises(RefusedError, match=r"server\.json"):
        cloud.ensure_server(ORDER)

    assert (folder / "store" / "jetstream" / "msgs").read_bytes() == b"acknowledged"


def test_what_a_killed_creation_left_is_no_data(cloud: LocalCloud, server: Server, folder: Path) -> None:
    (folder / "server.json").unlink()
    marker = Path(cloud.machine(server).layout.marker)
    marker.with_name(f".{marker.name}.k1ll3d.new").write_bytes(b"{")

    assert cloud.ensure_server(ORDER).name == server.name


PORTS = '{"labels": {}, "metadata": {"client_port": "99999", "cluster_port": "1", "monitor_port": "2"}}'


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"name": "oak-node-1"}', "\udcff", PORTS])
def test_a_server_file_that_cannot_be_read_stops_everything(
    cloud: LocalCloud, server: Server, folder: Path, text: str
) -> None:
    (folder / "server.json").write_text(text, errors="surrogateescape")

    for act in (
        lambda: cloud.list_servers("ours", "oak"),
        lambda: cloud.ensure_server(ORDER),
        lambda: cloud.delete_server("ours", server.name),
    ):
        with pytest.raises(MachineError, match=r"server\.json"):
            act()

    assert folder.exists()


def test_a_broken_forest_does_not_hinder_another(cloud: LocalCloud, server: Server, folder: Path) -> None:
    (folder / "server.json").write_text("{")

    elm = cloud.ensure_server(Order("elm-node-1", "elm", "ours", "run"))

    assert list(cloud.list_servers("ours", "elm")) == [elm]


def test_servers_of_another_host_are_left_alone(cloud: LocalCloud, server: Server, folder: Path) -> None:
    edit(folder, host="another")

    with pytest.raises(RefusedError, match="another machine"):
        cloud.ensure_server(ORDER)
    with pytest.raises(RefusedError):
        cloud.delete_server("ours", server.name)

    assert cloud.list_servers("ours", "oak") == []
    assert folder.exists()


@pytest.mark.parametrize("forest", ["*", "", "..", "o[a]k", "oak/.."])
def test_a_pattern_names_no_forest(cloud: LocalCloud, server: Server, forest: str) -> None:
    with pytest.raises(InvalidInputError):
        cloud.list_servers("ours", forest)


def test_what_lies_about_in_the_folder_is_no_server(cloud: LocalCloud, server: Server, folder: Path) -> None:
    (folder.parent / "notes.txt").write_text("mine")
    (folder.parent / "empty").mkdir()

    assert list(cloud.list_servers("ours", "oak")) == [server]


def test_only_this_user_may_look_into_the_folder(server: Server, folder: Path) -> None:
    private = (folder.parent.parent, folder / "server.json")

    assert [each.stat().st_mode & 0o077 for each in private] == [0, 0]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "forests").write_text("a file")

    with pytest.raises(MachineError):
        LocalCloud(tmp_path).ensure_server(ORDER)
