"""The names of nodes in DNS: one set of AAAA records for each, one of A records where it has IPv4 as well.

A name ``<node>.<domain>`` belongs to its node alone, so its records are set as a whole. A set is ours when it
carries our labels, as everything else does; another one is never changed or deleted, whatever its name.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from ipaddress import ip_address
from typing import Literal

from hcloud.actions import BoundAction
from hcloud.zones import BoundZone, BoundZoneRRSet, ZoneRecord

from morpheus.cloud import Server
from morpheus.cloud.hetzner.actions import Actions
from morpheus.cloud.hetzner.api import Api, MissingError, Shared, TakenError
from morpheus.cloud.hetzner.network import labels, selector
from morpheus.errors import CloudBusyError, InvalidInputError, RefusedError
from morpheus.settings import DnsSettings

TIMEOUT = 60.0  # seconds
COMMENT = "Morpheus"  # beside each record, for people; what counts are the labels

Kind = Literal["A", "AAAA"]
Key = tuple[str, Kind]


class Zones:
    """The zones of one project; its methods may be called by many threads at once.

    Names are made in the zone of the configured domain alone. Those of nodes are looked for in all zones when
    they go: the domain may have been another one, or the settings of this device may name none.
    """

    def __init__(self, api: Api, actions: Actions, settings: DnsSettings) -> None:
        self._api, self._actions = api, actions
        self._domain = settings.domain if settings.provider else None
        self._ttl = settings.ttl
        self._lock = threading.Lock()
        self._zone: BoundZone | None = None
        self._looks: dict[tuple[str, str], Shared[list[tuple[BoundZone, BoundZoneRRSet]]]] = {}

    @property
    def wanted(self) -> bool:
        return self._domain is not None

    def check(self) -> str:
        """Say where names are made, when they can be; nothing is changed.

        Raises:
            InvalidInputError: no zone holds the domain, or one that cannot be changed.
        """
        zone = self._configured()
        return f"nodes get names below {self._domain}, in the zone {zone.name}"

    def publish(self, registry_id: str, forest: str, nodes: Sequence[Server]) -> Mapping[str, str]:
        """Let the names of *nodes* lead to them, and no other name of *forest* in the zone to anything.

        Returns the full name of each. One request that lists, then one for each set that differs.

        Raises:
            InvalidInputError: as :meth:`check`.
            RefusedError: a name has records that are not ours.
            CloudBusyError: somebody removed some of it meanwhile.
        """
        zone = self._configured()
        wanted = {key: node for node in nodes for key in self._addresses(zone, node)}
        try:
            there = {_key(each): each for each in self._ours(zone, registry_id, forest)}
            begun = [self._delete(each) for key, each in there.items() if key not in wanted]
            for key, node in wanted.items():
                begun += self._ensure(zone, key, node, there.get(key), labels(registry_id, forest))
        except MissingError:
            self._forget()
            raise CloudBusyError(f"Somebody removed names of {forest} meanwhile.") from None
        self._actions.wait(begun, f"the names of {forest}", timeout=TIMEOUT)
        return {node.name: f"{node.name}.{self._domain}" for node in nodes}

    def withdraw(self, registry_id: str, forest: str, node: str) -> None:
        """Return when no name of ours leads to *node* any more; threads that do so share their look.

        One request in a project without zones, else one more for each.
        """
        with self._lock:
            look = partial(self._everywhere, registry_id, forest)
            shared = self._looks.setdefault((registry_id, forest), Shared(look))
        self._remove([each for _, each in shared() if (each.labels or {}).get("node-id") == node])

    def sweep(self, registry_id: str, forest: str) -> None:
        """Remove every name of *forest* that is ours, in whichever zone."""
        self._remove([each for _, each in self._everywhere(registry_id, forest)])

    def described(self, registry_id: str, forest: str) -> Sequence[str]:
        """Every name of *forest* that is ours, in words."""
        found = self._everywhere(registry_id, forest)
        return [f"DNS name {each.name}.{zone.name} ({each.type})" for zone, each in found]

    # Looking

    def _configured(self) -> BoundZone:
        zone = self._found()
        if zone is None:
            raise InvalidInputError(
                f"dns.domain: no zone in this project holds {self._domain}: add that zone in the Cloud "
                "Console (DNS), or correct dns.domain."
            )
        if zone.mode != BoundZone.MODE_PRIMARY:
            self._forget()
            raise InvalidInputError(
                f"dns.domain: the zone {zone.name} is a secondary one, whose records come from elsewhere: "
                "name a domain in a primary zone."
            )
        return zone

    def _found(self) -> BoundZone | None:
        """The zone with the longest name that the domain ends in."""
        with self._lock:
            for name in _above(self._domain or ""):
                if self._zone is not None:
                    break
                with self._api.call(f"find the zone {name}"):
                    self._zone = next(iter(self._api.client.zones.get_list(name=name).zones), None)
            return self._zone

    def _forget(self) -> None:
        with self._lock:
            self._zone = None

    def _everywhere(self, registry_id: str, forest: str) -> list[tuple[BoundZone, BoundZoneRRSet]]:
        """Every set of *forest* that is ours, with its zone."""
        with self._api.call("list the zones"):
            zones = self._api.client.zones.get_all(mode="primary")
        return [(zone, each) for zone in zones for each in self._left(zone, registry_id, forest)]

    def _ours(self, zone: BoundZone, registry_id: str, forest: str) -> list[BoundZoneRRSet]:
        with self._api.call(f"list the names of {forest} in {zone.name}"):
            return zone.get_rrset_all(label_selector=selector(registry_id, forest))

    def _left(self, zone: BoundZone, registry_id: str, forest: str) -> list[BoundZoneRRSet]:
        """As :meth:`_ours`; none in a zone that is gone meanwhile."""
        with contextlib.suppress(MissingError):
            return self._ours(zone, registry_id, forest)
        return []

    def _addresses(self, zone: BoundZone, node: Server) -> dict[Key, str]:
        """The addresses of *node*, each by name in *zone* and type."""
        name = f"{node.name}.{self._domain}".removesuffix(f".{zone.name}")
        found: dict[Key, str] = {}
        for each in filter(None, (node.ip, node.metadata.get("ipv4"))):
            with contextlib.suppress(ValueError):  # anybody may have written the record it comes from
                found[name, "A" if ip_address(each).version == 4 else "AAAA"] = each  # noqa: PLR2004
        return found

    # Changing

    def _ensure(
        self,
        zone: BoundZone,
        key: Key,
        node: Server,
        known: BoundZoneRRSet | None,
        ours: Mapping[str, str],
    ) -> Iterator[BoundAction]:
        """Begin what lets the name *key* lead to *node*; nothing where it does so already."""
        name, kind = key
        records = [ZoneRecord(value=self._addresses(zone, node)[key], comment=COMMENT)]
        what = f"{name} in {zone.name} ({kind})"
        if known is None:
            marked = {**ours, "node-id": node.name}
            try:
                with self._api.call(f"create {what}"):
                    create = zone.create_rrset
                    yield create(name=name, type=kind, ttl=self._ttl, labels=marked, records=records).action
                    return
            except TakenError:  # the answer to an earlier try was lost, or the name is somebody else's
                with self._api.call(f"read {what}"):
                    known = zone.get_rrset(name, kind)
            if any((known.labels or {}).get(label) != text for label, text in marked.items()):
                raise RefusedError(
                    f"{name}.{zone.name} has {kind} records that are not of this forest, which were not "
                    "touched: remove them, or choose another name for the forest or another dns.domain."
                )
        if _values(known) != {ip_address(str(each.value)) for each in records}:
            with self._api.call(f"set {what}"):
                yield known.set_rrset_records(records)
        if known.ttl != self._ttl:
            with self._api.call(f"set the ttl of {what}"):
                yield known.change_rrset_ttl(self._ttl)

    def _delete(self, known: BoundZoneRRSet) -> BoundAction:
        with self._api.call(f"remove the name {known.name} ({known.type})"):
            return known.delete_rrset().action

    def _remove(self, several: Sequence[BoundZoneRRSet]) -> None:
        begun = []
        for each in several:
            with contextlib.suppress(MissingError):
                begun.append(self._delete(each))
        if begun:
            self._actions.wait(begun, "names to go", timeout=TIMEOUT)


def _above(domain: str) -> Iterator[str]:
    """*domain* and what it lies below, the longest first; a zone has two parts at least."""
    parts = domain.split(".")
    yield from (".".join(parts[k:]) for k in range(len(parts) - 1))


def _key(known: BoundZoneRRSet) -> tuple[str, str]:
    return (str(known.name), str(known.type))


def _values(known: BoundZoneRRSet) -> set[object]:
    """The addresses in *known*, however they are written."""
    found: set[object] = set()
    for each in known.records or []:
        try:
            found.add(ip_address(str(each.value)))
        except ValueError:
            found.add(each.value)
    return found
