"""The Storage Box that holds the registry: found by its labels, made once, waited for.

It has one name in every project, so that of two devices that make one at the same time only one does. No
answer of the API gives a password back, and none that others may use is ever reset.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from hcloud.locations import Location
from hcloud.storage_box_types import BoundStorageBoxType, StorageBoxType
from hcloud.storage_boxes import (
    BoundStorageBox,
    BoundStorageBoxSubaccount,
    StorageBoxAccessSettings,
    StorageBoxSubaccountAccessSettings,
)

from morpheus.cloud import MANAGED_BY
from morpheus.cloud.hetzner.actions import ActionFailedError, Actions
from morpheus.cloud.hetzner.api import TakenError, api_of
from morpheus.cloud.hetzner.catalogue import price_in
from morpheus.errors import CloudBusyError, CloudError, InvalidInputError, NotReadyError, TransientError
from morpheus.forest import Price
from morpheus.interrupted import GO_ON, leaves
from morpheus.settings import HetznerSettings
from morpheus.wait import wait_until

log = logging.getLogger("morpheus.cloud")

NAME = "morpheus-registry"  # of the box, in every project
LABELS = {"managed-by": MANAGED_BY, "purpose": "registry"}
SELECTOR = ",".join(f"{key}=={value}" for key, value in LABELS.items())
FOLDER = "morpheus"  # in the box; the home of subaccounts
LOOK_EVERY = 2.0  # seconds, at a box that somebody else began to make
CHANGE_TIMEOUT = 120.0  # seconds until a subaccount or an access setting is as it was asked for


@dataclass(frozen=True, slots=True)
class Box:
    """A Storage Box with our labels; ``url`` and ``username`` are None while it is being made.

    ``registry_id`` is that of its labels, or made of its number where a person labelled it without one.
    """

    name: str
    registry_id: str
    location: str
    kind: str
    url: str | None
    username: str | None
    bound: BoundStorageBox = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}, {self.location}, {self.username or 'being made'})"


@dataclass(frozen=True, slots=True)
class Account:
    """A subaccount of a box: the address of the registry as it sees it, and its name."""

    url: str
    username: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A box that could be made; ``setup`` is paid once. In EUR, VAT included."""

    kind: str
    location: str
    price: Price
    setup: Decimal = Decimal(0)

    def __str__(self) -> str:
        once = f", and once EUR {self.setup:.2f}" if self.setup else ""
        return f"{self.kind} in {self.location}, {self.monthly}{once}, VAT included"

    @property
    def monthly(self) -> str:
        return f"EUR {self.price.monthly:.2f} a month"


class Boxes:
    """The boxes of one project that hold registries.

    Raises:
        InvalidInputError: there is no token, or none that can be one.
    """

    def __init__(self, settings: HetznerSettings) -> None:
        self._settings, self._api = settings, api_of(settings)
        self._actions = Actions(self._api)

    def find(self) -> Sequence[Box]:
        """Every box that says it holds a registry, oldest first."""
        with self._api.call("look for the Storage Box"):
            found = self._api.client.storage_boxes.get_all(label_selector=SELECTOR)
        return [_box(each) for each in sorted(found, key=lambda each: each.id or 0)]

    def offer(self, location: str | None = None) -> Offer:
        """The smallest box that can be ordered, in *location*, or in the first one configured that has any.

        Raises:
            InvalidInputError: there is none in *location*.
            CloudError: there is none at all.
        """
        with self._api.call("read the types of Storage Boxes"):
            types = self._api.client.storage_box_types.get_all()
        ordered = sorted(
            (each for each in types if each.deprecation is None), key=lambda each: each.size or 0
        )
        offers = [offer for type_ in ordered for offer in _offers(type_)]
        places = sorted({each.location for each in offers})
        if location and location not in places:
            raise InvalidInputError(
                f"There are no Storage Boxes in {location!r}: choose {', '.join(places)}."
            )
        for place in (location,) if location else (*self._settings.locations, *places):
            for offer in offers:
                if offer.location == place:
                    return offer
        raise CloudError("Hetzner offers no Storage Box at the moment: see the Cloud Console.")

    def ensure(self, registry_id: str, password: str, offer: Offer) -> Box:
        """The box of the registry *registry_id*, made with *password* where there is none; it is in use.

        Raises:
            TakenError: another box took the name; ours was not made.
            NotReadyError: it is not there yet after machine.hetzner.create_timeout seconds.
            CloudError: it could not be made; nothing of it is left.
        """
        for each in self.find():
            if each.registry_id == registry_id:
                return self._ordered_and_ready(each, offer)
        with leaves(f"A Storage Box may be ordered, which costs {offer.monthly}; {GO_ON}"):
            made = self._ordered(registry_id, password, offer)
        return self._ordered_and_ready(_box(made), offer)

    def _ordered_and_ready(self, box: Box, offer: Offer) -> Box:
        with leaves(f"The Storage Box is ordered and costs {offer.monthly}; {GO_ON}"):
            return self.ready(box, remove=True)

    def _ordered(self, registry_id: str, password: str, offer: Offer) -> BoundStorageBox:
        try:
            with self._api.call("make the Storage Box"):
                made = self._api.client.storage_boxes.create(
                    name=NAME,
                    password=password,
                    location=Location(name=offer.location),
                    storage_box_type=StorageBoxType(name=offer.kind),
                    access_settings=StorageBoxAccessSettings(
                        reachable_externally=True,
                        webdav_enabled=True,
                        samba_enabled=False,
                        ssh_enabled=False,
                        zfs_enabled=False,
                    ),
                    labels={**LABELS, "registry-id": registry_id},
                ).storage_box
            log.info("%s: ordered (%s)", NAME, offer)
        except InvalidInputError as error:
            raise InvalidInputError(f"{error} Nothing was made.") from error
        except (TakenError, TransientError) as error:  # also when the answer to a try was lost
            found = [each for each in self.find() if each.registry_id == registry_id]
            if not found:
                raise error from None
            made = found[0].bound
        return made

    def ready(self, box: Box, *, remove: bool = False) -> Box:
        """*box* when it is made and lets WebDAV in from outside; with *remove* it goes if that failed.

        Raises:
            NotReadyError, CloudError: as :meth:`ensure`.
        """
        bound = box.bound
        if bound.status == BoundStorageBox.STATUS_INITIALIZING:
            self._made(bound, remove=remove)
        self._opened(bound)
        return _box(bound)

    def ensure_account(self, box: Box, device: str, password: str) -> Account:
        """The subaccount of *device*, which may read and write the registry's folder and nothing else."""
        bound = self.ready(box).bound
        account = self._account(bound, device)
        if account is None:
            try:
                with self._api.call("make a subaccount of the Storage Box"):
                    made = bound.create_subaccount(
                        name=f"morpheus-{device[:8]}",
                        home_directory=FOLDER,
                        password=password,
                        access_settings=StorageBoxSubaccountAccessSettings(
                            reachable_externally=True,
                            webdav_enabled=True,
                            readonly=False,
                            samba_enabled=False,
                            ssh_enabled=False,
                        ),
                        description="A device that uses the registry of Morpheus",
                        labels={**LABELS, "device-id": device},
                    )
                    self._actions.wait([made.action], "the subaccount", timeout=CHANGE_TIMEOUT)
            except TransientError:  # the answer may be lost; what it made is found by its label
                account = self._account(bound, device)
                if account is None:
                    raise
            account = account or self._account(bound, device)
        if account is None or not account.server or not account.username:
            raise CloudBusyError(
                "The subaccount is not to be seen yet: run morpheus init --subaccount again."
            )
        return Account(f"https://{account.server}/registry.json", account.username)

    # Waiting

    def _made(self, bound: BoundStorageBox, *, remove: bool) -> None:
        timeout = self._settings.create_timeout
        with self._api.call(f"look at what was begun with {bound.name}"):
            begun = [each for each in bound.get_actions() if each.command == "create"]
        what = f"the Storage Box {bound.name}"
        try:
            self._actions.wait(begun, what, timeout=timeout)
            wait_until(
                what,
                lambda: self._looked_at(bound),
                lambda seen: bool(seen.server and seen.username),
                lambda seen: str(seen.status),
                timeout=timeout,
                interval=LOOK_EVERY,
            )
        except ActionFailedError as error:
            if not remove:
                raise CloudError(f"{error} Delete the box {bound.name} in the Cloud Console.") from None
            self._removed(bound)
            raise CloudError(f"{error} The box was removed again: run morpheus init once more.") from None
        except NotReadyError as error:
            raise NotReadyError(
                f"{error} The box is ordered and costs; morpheus init goes on with it where this stopped."
            ) from None

    def _looked_at(self, bound: BoundStorageBox) -> BoundStorageBox:
        with self._api.call(f"look at {bound.name}"):
            bound.reload()
        return bound

    def _opened(self, bound: BoundStorageBox) -> None:
        """Let WebDAV in from outside, where that is not so; what else is set stays."""
        known = bound.access_settings
        if known and known.reachable_externally and known.webdav_enabled:
            return
        with self._api.call(f"let WebDAV into {bound.name}"):
            wanted = StorageBoxAccessSettings(reachable_externally=True, webdav_enabled=True)
            action = bound.update_access_settings(wanted)
            self._actions.wait([action], f"WebDAV on {bound.name}", timeout=CHANGE_TIMEOUT)
        log.info("%s: lets WebDAV in from outside now", bound.name)

    def _removed(self, bound: BoundStorageBox) -> None:
        """Delete a box that was never in use."""
        what = f"remove the Storage Box {bound.name}, which could not be made"
        with self._api.call(what):
            self._actions.wait([bound.delete().action], f"{bound.name} to go", timeout=CHANGE_TIMEOUT)

    def _account(self, bound: BoundStorageBox, device: str) -> BoundStorageBoxSubaccount | None:
        with self._api.call("list the subaccounts of the Storage Box"):
            found = bound.get_subaccount_all(label_selector=f"device-id=={device}")
        return found[0] if found else None


def _box(bound: BoundStorageBox) -> Box:
    assert bound.location  # only partial objects lack these
    assert bound.storage_box_type
    url = f"https://{bound.server}/{FOLDER}/registry.json" if bound.server else None
    return Box(
        name=str(bound.name),
        registry_id=(bound.labels or {}).get("registry-id") or f"box-{bound.id}",
        location=str(bound.location.name),
        kind=str(bound.storage_box_type.name),
        url=url,
        username=bound.username,
        bound=bound,
    )


def _offers(type_: BoundStorageBoxType) -> Iterator[Offer]:
    for raw in type_.prices or []:
        try:
            setup = Decimal(raw["setup_fee"]["gross"])
        except (KeyError, TypeError, InvalidOperation):
            setup = Decimal(0)
        yield Offer(str(type_.name), raw["location"], price_in(raw), setup)
