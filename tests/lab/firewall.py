"""Firewalls and cuts, in the router: no root of a machine reaches them.

As the provider's: stateful; without any firewall all is open; with one, what no rule lets in is dropped; what
goes out is free until a rule says what may. Neighbour discovery never passes the router and is always free.
"""

import ipaddress
import threading
from collections.abc import Iterable, Sequence

from tests.lab.commands import run
from tests.lab.namespaces import Namespace
from tests.simulator.state import Json

# Cuts come first: they end what is established, too.
TABLE = """
table inet lab {
  map inbound { type ifname : verdict; }
  map outbound { type ifname : verdict; }
  chain cuts { }
  chain input { type filter hook input priority 0; policy accept; jump cuts; }
  chain output { type filter hook output priority 0; policy accept; jump cuts; }
  chain forward {
    type filter hook forward priority 0; policy accept;
    jump cuts
    ct state established,related accept
    iifname vmap @outbound
    oifname vmap @inbound
  }
}
"""


class Firewalls:
    """What each line lets through, by the name of its end at the router."""

    def __init__(self, router: Namespace) -> None:
        self.router = router
        self._lock = threading.Lock()
        self._rules: dict[str, Sequence[Json] | None] = {}
        self._cuts: set[tuple[str, str | None]] = set()

    def open(self) -> None:
        self._tell(TABLE)

    def guard(self, line: str, rules: Sequence[Json] | None) -> None:
        """Let *rules*, of all firewalls of a line together, count from now on; None: no firewall."""
        with self._lock:
            before = self._rules.get(line)
            if before != rules:
                self._tell("".join(_replaced(line, before, rules)))
                self._rules[line] = None if rules is None else list(rules)

    def cut(self, line: str, other: str | None = None) -> None:
        """Drop all that goes between two lines, or between one and anybody."""
        with self._lock:
            self._cuts.add((line, other))
            self._enforce_cuts()

    def mend(self, *lines: str) -> None:
        """Take back the cuts of these lines, or all."""
        with self._lock:
            self._cuts = {cut for cut in self._cuts if lines and not set(cut) & set(lines)}
            self._enforce_cuts()

    def _enforce_cuts(self) -> None:
        drops = [f"add rule inet lab cuts {_between(*cut)}" for cut in sorted(self._cuts, key=str)]
        self._tell("\n".join(["flush chain inet lab cuts", *drops]))

    def _tell(self, commands: str) -> None:
        with self.router.entered():
            run(["nft", "-f", "-"], text=commands + "\n")


def _between(line: str, other: str | None) -> str:
    if other is None:
        return f'iifname "{line}" drop\nadd rule inet lab cuts oifname "{line}" drop'
    there, back = (line, other), (other, line)
    return "\nadd rule inet lab cuts ".join(
        f'iifname "{one}" oifname "{two}" drop' for one, two in (there, back)
    )


def _replaced(line: str, before: Sequence[Json] | None, rules: Sequence[Json] | None) -> Iterable[str]:
    """The commands that bring a line from one set of rules to another, in one transaction."""
    for way, peers in (("in", "source_ips"), ("out", "destination_ips")):
        chain, entry = f"{way}-{line}", f'{way}bound {{ "{line}" : jump {way}-{line} }}'
        if before is None:
            yield f"add chain inet lab {chain}\nadd element inet lab {entry}\n"
        if rules is None:
            yield f"delete element inet lab {entry}\n"
            yield f"flush chain inet lab {chain}\ndelete chain inet lab {chain}\n"
            continue
        yield f"flush chain inet lab {chain}\n"
        ours = [rule for rule in rules if rule["direction"] == way]
        for each in (part for rule in ours for part in _matches(rule, peers, way)):
            yield f"add rule inet lab {chain} {each} {'accept' if way == 'in' else 'return'}\n"
        if ours or way == "in":
            yield f"add rule inet lab {chain} drop\n"


def _matches(rule: Json, peers: str, way: str) -> Iterable[str]:
    side = "saddr" if way == "in" else "daddr"
    for peer in rule[peers]:
        network = ipaddress.ip_network(peer)
        family = "ip" if network.version == 4 else "ip6"
        yield f"{family} {side} {network} {_protocol(rule, network.version)}"


def _protocol(rule: Json, version: int) -> str:
    protocol = rule["protocol"]
    if protocol == "icmp":
        return f"meta l4proto {'icmp' if version == 4 else 'ipv6-icmp'}"
    if rule["port"] is None:
        return f"meta l4proto {protocol}"
    return f"{protocol} dport {rule['port']}"
