"""Real Debian hosts for the simulator's servers, in namespaces: no packet leaves the machine. Needs root.

Tests of ``tests/hosts`` ask for the fixture ``lab``, which lets the whole process live in the laptop's
namespace: what a test opens from then on, the simulator's address on 127.0.0.1 included, is there.

    simulator = Simulator(latency=Latency(scale=0), hosts=lab)
    with lab.cleared(), simulator.running():
        ...  # POST /servers boots a host with the user_data given
        host = lab["oak-node-1"]
        host.power_cut(); host.boot(); host.power_off(); host.reboot(); host.rebuild(); host.delete()
        host.run(["systemctl", "is-active", "nats"])  # on the host, as root, without SSH
        host.namespace.run(["curl", ...])  # a program of this machine with the host's network
        host.unplug(); host.plug(); host.fill_disk(); host.free_disk(); host.journal("-u", "nats")
        lab.partition("oak-node-1", "oak-node-2"); lab.heal()
        lab.faults.sshd_late("oak-*", 2)  # see tests.lab.faults; before the birth

Without the API: ``host = lab.host("oak-node-1", image="debian-12", ssh_keys=[key]); host.boot()``.

Who else is there: ``lab.laptop`` (dual stack), ``lab.outside`` (another network, dual stack), ``lab.phone``
(IPv4 alone), each a namespace: ``lab.outside.run(argv)`` runs a program there, and in a block
``with lab.outside.entered():`` the current thread opens its sockets there (asyncio too, as long as no name
has to be resolved). They reach hosts through the hosts' firewalls alone, and so does one host another.
"""

import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from tests.lab import leftovers
from tests.lab.disks import SIZE, Disk
from tests.lab.faults import BirthFaults
from tests.lab.firewall import Firewalls
from tests.lab.hosts import Host, Place
from tests.lab.metadata import Metadata
from tests.lab.network import Line, Network
from tests.lab.resolver import Resolver
from tests.simulator.hosts import Birth
from tests.simulator.state import Json

ORDERS = {
    "start_server": Host.boot,
    "stop_server": Host.power_cut,
    "shutdown_server": Host.power_off,
    "reboot_server": Host.reboot,
    "reset_server": Host.reset,
}


class Lab:
    """All hosts of a run, and what is between them. May be used from any thread."""

    def __init__(self) -> None:
        leftovers.clear_leftovers()
        self._run = leftovers.Run()
        self.network = Network(self._run.name)
        self.firewalls = Firewalls(self.network.router)
        self.faults = BirthFaults()
        self.hosts: dict[int, Host] = {}
        self._orders: dict[int, ThreadPoolExecutor] = {}
        self._ordered: list[tuple[int, Future[None]]] = []
        self._lock = threading.RLock()
        self._marks, self._numbers = itertools.count(1), itertools.count(1)
        self._open()

    def _open(self) -> None:
        self.network.open()
        self.firewalls.open()
        self.laptop = self.network.person("laptop", 1)
        self.outside = self.network.person("outside", 2)
        self.phone = self.network.person("phone", 3, ipv6=False)
        self._metadata = Metadata(self.network.router, self._who)
        self._resolver = Resolver(self.network.router)
        self._metadata.open()
        self._resolver.open()

    def close(self) -> None:
        """Cut the power of everything, and leave nothing on the machine."""
        self._metadata.close()
        self._resolver.close()
        self.clear()
        self._run.close()

    # Hosts

    def __getitem__(self, name: str) -> Host:
        """The newest host of a name."""
        with self._lock:
            return [each for each in self.hosts.values() if each.name == name][-1]

    def host(
        self,
        name: str,
        *,
        image: str = "debian-13",
        user_data: str = "",
        ssh_keys: Sequence[str] = (),
        root_password: str | None = None,
        ipv4: bool = False,
        disk: int = SIZE,
    ) -> Host:
        """A host that no API knows, not booted yet; *disk* in bytes."""
        number = next(self._numbers)
        return self._add(
            Birth(
                number=number,
                name=name,
                image=image,
                ipv6=f"2001:db8:0:{number + 0x1000:x}::/64",
                ipv4=f"198.51.100.{number}" if ipv4 else None,
                user_data=user_data,
                ssh_keys=tuple(ssh_keys),
                root_password=root_password,
            ),
            disk,
        )

    def _add(self, birth: Birth, disk: int = SIZE) -> Host:
        with self._lock:
            number = next(self._marks)
            mark = f"h{number}"
            local = f"169.254.{100 + number // 200}.{1 + number % 200}"
            line = Line(mark, birth.ipv6, birth.ipv4, local)
            folder = self._run.folder
            place = Place(self._run.name, mark, folder, self.network, self.firewalls, line)
            host = Host(birth, place, Disk(folder / mark, disk), self.faults)
            self.hosts[birth.number] = host
            return host

    def _who(self, local: str) -> Birth | None:
        with self._lock:
            return next((each.birth for each in self.hosts.values() if each.line.local == local), None)

    def clear(self) -> None:
        """Delete all hosts, those that are being made included, with all faults and cuts."""
        self._clear(list(self.hosts))

    @contextlib.contextmanager
    def cleared(self) -> Iterator[None]:
        """Delete at the end of the block the hosts that were made in it, with all faults and cuts.

        Raises:
            Exception: what an order of the API met that could not be carried out.
        """
        before = set(self.hosts)
        try:
            yield
        finally:
            self._clear([number for number in self.hosts if number not in before])
        self.check()

    def check(self) -> None:
        """Raise what an order of the API met; wait for the orders that are under way."""
        with self._lock:
            ordered, self._ordered = self._ordered, []
        for _, order in ordered:
            if not order.cancelled():
                order.result()

    def _clear(self, numbers: list[int]) -> None:
        """Orders still come in while this happens; none is begun for a host that is gone."""
        with ThreadPoolExecutor(max_workers=4) as workers:
            list(workers.map(self._forget, numbers))
        self.faults.clear()
        self.firewalls.mend()

    def _forget(self, number: int) -> None:
        with self._lock:
            orders, host = self._orders.pop(number, None), self.hosts.pop(number)
        if orders:
            orders.shutdown(cancel_futures=True)
        host.delete()
        self.firewalls.guard(host.line.name, None)

    # Trouble between hosts

    def partition(self, *names: str) -> None:
        """Let nothing pass between any two of these hosts."""
        for one, other in itertools.combinations(names, 2):
            self.firewalls.cut(self[one].line.name, self[other].line.name)

    def heal(self) -> None:
        """Take back all partitions and unpluggings."""
        self.firewalls.mend()

    # What the simulator says: tests.simulator.hosts.Hosts

    def act(self, command: str, birth: Birth) -> None:
        """Put the order behind those for the same host; its thread carries it out."""
        with self._lock:
            host = self.hosts.get(birth.number) or self._add(birth)
            orders = self._orders.setdefault(birth.number, ThreadPoolExecutor(max_workers=1))
            self._ordered.append((birth.number, orders.submit(self._obey, command, host, birth)))

    def _obey(self, command: str, host: Host, birth: Birth) -> None:
        if command == "create_server":
            return  # known from now on, and off
        if command == "rebuild_server":
            host.rebuild(replace(birth, ssh_keys=host.birth.ssh_keys))
        elif command == "delete_server":
            host.delete()
            self.firewalls.guard(host.line.name, None)
        else:
            ORDERS[command](host)

    def guard(self, number: int, rules: Sequence[Json] | None) -> None:
        with self._lock:
            host = self.hosts.get(number)
        if host:
            self.firewalls.guard(host.line.name, rules)

    def stopped(self, number: int) -> bool:
        with self._lock:
            host = self.hosts.get(number)
            busy = any(one == number and not order.done() for one, order in self._ordered)
        return host is not None and host.stopped_itself and not busy


__all__ = ["Host", "Lab"]
