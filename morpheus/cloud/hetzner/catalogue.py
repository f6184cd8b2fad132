"""What Hetzner offers: which server type can be had where, at what price, with which image."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any

from hcloud.images import BoundImage
from hcloud.server_types import BoundServerType
from hcloud.server_types.domain import ServerType, ServerTypeLocation

from morpheus.cloud.hetzner.api import Api
from morpheus.errors import CloudError, InvalidInputError
from morpheus.forest import Price
from morpheus.settings import MachineSettings

log = logging.getLogger("morpheus.cloud")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place where a node could stand."""

    type: BoundServerType
    location: str
    price: Price

    def __str__(self) -> str:
        return f"{self.type.name} in {self.location}"


class Catalogue:
    """The offer as it was when it was first asked for; one request for each part that is needed."""

    def __init__(self, api: Api, settings: MachineSettings) -> None:
        self._api, self._settings = api, settings
        self._images: dict[str, BoundImage] = {}

    @cached_property
    def _types(self) -> dict[str, BoundServerType]:
        with self._api.call("read the server types"):
            return {str(each.name): each for each in self._api.client.server_types.get_all()}

    @cached_property
    def ipv4_prices(self) -> dict[str, Price]:
        """What an IPv4 address costs, by location."""
        with self._api.call("read the prices"):
            pricing = self._api.request("GET", "/pricing")["pricing"]
        kinds = [each for each in pricing["primary_ips"] if each["type"] == "ipv4"]
        return {each["location"]: price_in(each) for kind in kinds for each in kind["prices"]}

    def candidates(self) -> tuple[Candidate, ...]:
        """Where nodes may stand, in the configured order of types, then of locations.

        Raises:
            InvalidInputError: a configured server type or location does not exist.
            CloudError: none of them can be had at the moment; says why for each.
        """
        found, reasons, ipv4 = [], [], self._settings.ipv4.enabled
        for type_ in self._configured_types():
            places = {place.location.name: place for place in type_.locations or []}
            for location in self._settings.hetzner.locations:
                if reason := _unavailable(places.get(location)):
                    reasons.append(f"{type_.name} in {location}: {reason}")
                else:
                    found.append(Candidate(type_, location, self.price_of(type_, location, ipv4=ipv4)))
                    _warn_of_the_end(type_, places[location])
        if not found:
            raise CloudError(
                f"No configured server type can be had now ({'; '.join(reasons)}): add others to "
                "machine.hetzner.server_type_fallback or .location."
            )
        return tuple(found)

    def image(self, type_: BoundServerType) -> BoundImage:
        """The configured image for the architecture of *type_*.

        Raises:
            InvalidInputError: there is none.
        """
        name, architecture = self._settings.hetzner.image, str(type_.architecture)
        if architecture not in self._images:
            with self._api.call(f"find the image {name}"):
                images = self._api.client.images.get_all(
                    name=name, architecture=[architecture], include_deprecated=True
                )
            if not images:
                raise InvalidInputError(
                    f"machine.hetzner.image: there is no image {name} for {architecture} machines such as "
                    f"{type_.name}."
                )
            if images[0].deprecation:
                log.warning("the image %s is deprecated: choose a newer one before it goes", name)
            self._images[architecture] = images[0]
        return self._images[architecture]

    def price_of(self, type_: BoundServerType, location: str, *, ipv4: bool) -> Price:
        """What a server costs with the address that belongs to it; nothing where the API tells no price."""
        prices = {each["location"]: price_in(each) for each in type_.prices or []}
        address = self.ipv4_prices.get(location, Price()) if ipv4 else Price()
        return prices.get(location, Price()) + address

    def _configured_types(self) -> Iterator[BoundServerType]:
        names = dict.fromkeys(
            (self._settings.hetzner.server_type, *self._settings.hetzner.server_type_fallback)
        )
        known = {str(place.location.name) for each in self._types.values() for place in each.locations or []}
        if strange := [each for each in self._settings.hetzner.locations if each not in known]:
            raise InvalidInputError(
                f"machine.hetzner.location: there is no location {strange[0]}; known are "
                f"{', '.join(sorted(known))}."
            )
        for name in names:
            if name not in self._types:
                raise InvalidInputError(
                    f"machine.hetzner.server_type: there is no server type {name}; known are "
                    f"{', '.join(sorted(self._types))}."
                )
            yield self._types[name]


def _unavailable(place: ServerTypeLocation | None) -> str:
    """Why a server type cannot be had at *place*; empty when it can."""
    if place is None:
        return "not offered there"
    ends = place.deprecation and place.deprecation.unavailable_after
    if ends and ends <= datetime.now(UTC):
        return f"not sold any more since {ends:%Y-%m-%d}"
    return "" if place.available is not False else "sold out"


def _warn_of_the_end(type_: BoundServerType, place: ServerTypeLocation) -> None:
    if place.deprecation:
        log.warning(
            "%s in %s is deprecated and cannot be ordered after %s: choose another server type",
            *(type_.name, place.location.name, f"{place.deprecation.unavailable_after:%Y-%m-%d}"),
        )


def architecture(type_: ServerType) -> str:
    """What programs on servers of *type_* are built for, as NATS names it."""
    return {"x86": "amd64", "arm": "arm64"}.get(str(type_.architecture), str(type_.architecture))


def price_in(raw: dict[str, Any]) -> Price:
    """An entry of a price list, VAT included; nothing where it tells none that is one."""
    try:
        return Price(Decimal(raw["price_hourly"]["gross"]), Decimal(raw["price_monthly"]["gross"]))
    except (KeyError, TypeError, InvalidOperation):
        return Price()


def dearest(candidates: Sequence[Candidate]) -> Price:
    """What a node costs at most, whichever candidate it gets: what a budget has to hold."""
    return max((each.price for each in candidates), key=lambda price: price.monthly)
