"""A cloud on this machine: each server is a folder, its programs are processes. No Docker, no root.

``<data>/forests/<forest>/<node>/`` holds everything of a node; ``server.json`` in it is written last when
it is made and goes first when it is deleted, so a server exists or does not. Other hosts that share the
folder neither see nor touch what is ours.
"""

import contextlib
import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import SecretStr

from morpheus import host
from morpheus.cloud import Order, Server, forest_of
from morpheus.errors import MachineError, RefusedError
from morpheus.files import is_unfinished, make_folder
from morpheus.forest import MAX_PORT, Node, Ports, Price, check_name, whole_number
from morpheus.machine import NATS, WORKLOAD, StoreState, processes, store_marker, store_state
from morpheus.machine.beside import watchman
from morpheus.machine.beside.local import LocalBeside
from morpheus.machine.limits import LEAST_FILE, Limits, limits_for
from morpheus.machine.local import LocalMachine, free_bytes, is_free, layout
from morpheus.wait import locked

log = logging.getLogger("morpheus.cloud")

ADDRESS = "127.0.0.1"
LOCK_TIMEOUT = 30.0  # seconds
PORT_CHOICES = 1500  # from the standard ones upwards


class LocalCloud:
    """Servers of this machine below the folder *root*; the first one listens on the ports *first*.

    *wanted* is what the JetStream of each new one may use, if it fits.
    """

    provider = "local"
    location = ""
    margin = 5.0  # a process that was told to start has started by then
    runs_programs = True
    needs_key = False

    def __init__(self, root: Path, *, first: Ports | None = None, wanted: Limits = Limits()) -> None:  # noqa: B008  # frozen
        self._root, self._ports, self._wanted = root / "forests", first or Ports(), wanted

    def list_servers(self, registry_id: str, forest: str | None = None) -> Sequence[Server]:
        if forest is None:
            found = (server for server in self._everybody() if _is_ours(server, registry_id))
            return sorted(found, key=lambda server: server.name)
        folder = self._root / check_name(forest)
        with _translated(f"list {folder}"):
            names = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
        servers = (_read(folder / name) for name in names)
        return [server for server in servers if server and _is_ours(server, registry_id)]

    def entered_with(self, key: SecretStr) -> "LocalCloud":
        del key  # its machines are ours anyway
        return self

    def groundwork(self, orders: Sequence[Order]) -> Mapping[str, Callable[[], object]]:
        del orders  # they share nothing
        return {}

    def ensure_server(self, order: Order) -> Server:
        folder = self._folder(order.name)
        with self._lock():
            known = _read(folder)
            if known is None:
                return self._create(order, folder)
            if not _is_ours(known, order.registry_id):
                raise RefusedError(
                    f"The folder {folder} belongs to another registry (or another machine): choose another "
                    "name, or remove the folder when nothing in it is needed."
                )
            return self._with_free_ports(known, folder)

    def delete_server(self, registry_id: str, name: str) -> None:
        folder = self._folder(name)
        server = _read(folder)
        if server and not _is_ours(server, registry_id):
            raise RefusedError(f"The folder {folder} belongs to another registry; it was not touched.")
        self._clear(folder)
        with self._lock(), contextlib.suppress(OSError):  # its last node was this one, or it was not
            folder.parent.rmdir()

    def platforms(self) -> Collection[str]:
        return ()

    def price(self) -> Price:
        return Price()

    def check(self, *, creates: bool) -> None:
        pass  # ensure_server looks at disk and ports

    def admit(
        self, registry_id: str, forest: str, nodes: Sequence[Server], leaving: Sequence[Server] = ()
    ) -> Sequence[Server]:
        del registry_id, forest, leaving  # they share one machine
        return nodes

    def clear(self, registry_id: str, forest: str) -> None:
        pass  # delete_server removes the forest's folder with its last node

    def homes(self, url: str, username: str) -> None:
        del url, username  # what nodes know is on this computer anyway

    def holdings(self, registry_id: str, forest: str) -> Sequence[str]:
        folders = [self._folder(server.name) for server in self.list_servers(registry_id, forest)]
        return [f"{each} ({'running' if processes.find(each, NATS) else 'stopped'})" for each in folders]

    def machine(self, server: Server) -> LocalMachine:
        return LocalMachine(server.name, self._folder(server.name))

    def beside(self, server: Server) -> LocalBeside:
        return LocalBeside(self.machine(server))

    def store(self, server: Server) -> StoreState:
        folder = self._folder(server.name)
        return store_state(self.machine(server), was_started=processes.was_started(folder, NATS))

    def _folder(self, name: str) -> Path:
        return self._root / forest_of(name) / name

    def _create(self, order: Order, folder: Path) -> Server:
        if _has_data(folder):
            raise RefusedError(
                f"The folder {folder} holds data but no server.json that says whose: put that back from a "
                "copy, or remove the folder when nothing in it is needed."
            )
        self._clear(folder)  # what an interrupted creation left
        self.check_room(order.siblings)
        ram, disk = psutil.virtual_memory().total, free_bytes(self._root)
        limits = limits_for(ram, disk, order.siblings, self._wanted)
        if limits.below(self._wanted):
            log.warning(
                "%s: JetStream gets %d MiB of memory and %d MiB of disk, less than configured: that is what "
                "fits on this machine",
                *(order.name, limits.memory // 2**20, limits.file // 2**20),
            )
        metadata = {
            **_port_fields(self._choose_ports(order.name)),
            "jetstream_memory": str(limits.memory),
            "jetstream_file": str(limits.file),
            "host": host.host_id(),
        }
        server = Server(order.name, ADDRESS, order.labels, metadata)
        machine = self.machine(server)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        make_folder(folder)
        machine.put(layout(folder).marker, store_marker(order.forest, order.name, created))
        _write(machine, server)
        return server

    def check_room(self, nodes: int) -> None:
        """Raise MachineError when the disk has no room for *nodes* nodes of even the smallest size."""
        free, needed = free_bytes(self._root), nodes * LEAST_FILE
        if free < needed:
            raise MachineError(
                f"The disk of {self._root} has {free // 2**20} MiB free; {nodes} node(s) need at least "
                f"{needed // 2**20} MiB. Make room, or set MORPHEUS_DATA_DIR to a folder on a larger disk."
            )

    def _with_free_ports(self, server: Server, folder: Path) -> Server:
        """*server*, moved to other ports when another program took one of its own while it did not run."""
        ports = _ports(server)
        if processes.find(folder, NATS) or _all_free(ports):
            return server
        chosen = self._choose_ports(server.name)
        log.warning("%s moves to port %d: another program has %d", server.name, chosen.client, ports.client)
        moved = replace(server, metadata={**server.metadata, **_port_fields(chosen)})
        _write(self.machine(server), moved)
        return moved

    def _choose_ports(self, name: str) -> Ports:
        """The next ports that no program has and no other local node may come back to.

        Node k looks from the k-th on, so that the first has the standard ports whichever is made first.
        """
        promised = {_ports(server).client for server in self._everybody()}
        start, first = self._ports, max(Node(name).number - 1, 0)
        for k in range(first, first + PORT_CHOICES):
            ports = Ports(start.client + k, start.cluster + k, start.monitor + k)
            if ports.client not in promised and _all_free(ports):
                return ports
        raise MachineError(
            f"No free ports are left above {start.client}, {start.cluster} and {start.monitor} "
            f"(tried {PORT_CHOICES} of each)."
        )

    def _everybody(self) -> Iterator[Server]:
        for path in self._root.glob("*/*/server.json"):
            with contextlib.suppress(MachineError):  # another forest's broken file is no fault of this one
                if server := _read(path.parent):
                    yield server

    def _clear(self, folder: Path) -> None:
        machine = LocalMachine(folder.name, folder)
        for program in (watchman.NAME, WORKLOAD, NATS):
            machine.stop(program)
        LocalBeside(machine).machine.stop(NATS)
        with contextlib.suppress(FileNotFoundError), _translated(f"remove {folder}"):
            if folder.is_symlink():
                log.warning("%s was a link to %s, which was left as it is", folder, folder.readlink())
                folder.unlink()
                return
            (folder / "server.json").unlink(missing_ok=True)
            shutil.rmtree(folder)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One at a time chooses ports, whichever forest it plants."""
        with contextlib.ExitStack() as held:
            make_folder(self._root)
            with _translated(f"lock {self._root}"):
                held.enter_context(locked(self._root / ".lock", timeout=LOCK_TIMEOUT))
            yield


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise MachineError(f"Cannot {what}: {error.strerror or error}.") from error


def _has_data(folder: Path) -> bool:
    """Whether NATS wrote anything below *folder*; our marker, finished or not, is no data."""
    marker = Path(layout(folder).marker)
    files = (path for path in Path(layout(folder).data).rglob("*") if path.is_file())
    return any(path != marker and not is_unfinished(path, marker) for path in files)


def _is_ours(server: Server, registry_id: str) -> bool:
    return server.labels.get("registry-id") == registry_id and server.metadata.get("host") == host.host_id()


def _ports(server: Server) -> Ports:
    """Where *server* listens; raises ValueError or KeyError when its file tells no such ports."""
    ports = [
        whole_number(server.metadata[f"{kind}_port"], MAX_PORT) for kind in ("client", "cluster", "monitor")
    ]
    if None in ports:
        raise ValueError("its ports are no ports")
    return Ports(*filter(None, ports))


def _port_fields(ports: Ports) -> Mapping[str, str]:
    return {
        "client_port": str(ports.client),
        "cluster_port": str(ports.cluster),
        "monitor_port": str(ports.monitor),
    }


def _all_free(ports: Ports) -> bool:
    return all(is_free(port) for port in (ports.client, ports.cluster, ports.monitor))


def _write(machine: LocalMachine, server: Server) -> None:
    content = {"name": server.name, "labels": dict(server.labels), "metadata": dict(server.metadata)}
    machine.put(str(machine.folder / "server.json"), json.dumps(content, indent=2).encode())


def _read(folder: Path) -> Server | None:
    """The server in *folder*; a broken file is an error, for there may be data beside it."""
    try:
        raw = json.loads((folder / "server.json").read_text())
        server = Server(folder.name, ADDRESS, dict(raw["labels"]), dict(raw["metadata"]))
        _ports(server)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MachineError(
            f"{folder / 'server.json'} cannot be read ({type(error).__name__}: {error}): put it back from a "
            "copy, or remove the folder when nothing in it is needed."
        ) from error
    return server
