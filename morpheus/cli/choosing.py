"""What a person wants of morpheus init: said by options, or chosen when asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from morpheus import site
from morpheus.cli import asking, progress
from morpheus.errors import InvalidInputError, MorpheusError
from morpheus.kept import Access
from morpheus.settings import Settings

if TYPE_CHECKING:
    from morpheus.cloud.hetzner.boxes import Box, Offer
    from morpheus.founding import Where

DEVICE_ONLY = "a file of this device only: no other one sees what is planted"


class Kind(Enum):
    """How the registry is come to."""

    STORAGEBOX = auto()
    SUBACCOUNT = auto()
    URL = auto()
    NONE = auto()


@dataclass(frozen=True, slots=True)
class Wish:
    """What the options of the command say; what is missing is asked for."""

    kind: Kind | None = None
    url: str | None = None
    username: str | None = None
    box: str | None = None
    location: str | None = None
    yes: bool = False


def kind_wanted(settings: Settings, wish: Wish) -> Kind:
    """Which way a person chooses.

    Raises:
        InvalidInputError: nobody is here.
    """
    if not asking.somebody_is_here():
        raise InvalidInputError(site.NO_REGISTRY)
    asking.tell(
        "Where is the registry to stand, the one document that all devices share?",
        f"  1  in a Storage Box at Hetzner (recommended): {_first_choice(settings, wish)}",
        "  2  at an address that exists, WebDAV or S3",
        f"  3  nowhere else: {DEVICE_ONLY}",
    )
    return {"1": Kind.STORAGEBOX, "2": Kind.URL, "3": Kind.NONE}[
        asking.answer("1, 2 or 3: ", {"1", "2", "3"})
    ]


def _first_choice(settings: Settings, wish: Wish) -> str:
    """The box there is, or what a new one costs, or why nobody knows."""
    from morpheus.cloud.hetzner.boxes import Boxes  # noqa: PLC0415  # imports hcloud

    try:
        with progress.shown("Looking for a Storage Box, and what one costs ..."):
            boxes = Boxes(settings.machine.hetzner)
            if found := boxes.find():
                return f"there is {', '.join(map(str, found))}"
            return f"a new one, {boxes.offer(wish.location)}"
    except MorpheusError as error:
        return f"not now. {error}"


def where_meant(boxes: "Sequence[Box]", known: Sequence[Access], chosen: str | None) -> "Where":
    from morpheus import founding  # noqa: PLC0415  # imports hcloud

    try:
        return founding.decide(boxes, known, chosen)
    except InvalidInputError as error:
        if not asking.somebody_is_here() or chosen:
            raise
        asking.tell(str(error))
        return founding.decide(boxes, known, asking.answer("Name or user of the box: "))


def confirm_paid(offer: "Offer") -> None:
    """Have it said that a box may be paid for.

    Raises:
        InvalidInputError: it was not.
    """
    if not asking.somebody_is_here():
        raise InvalidInputError(
            f"A Storage Box would be made: {offer}. To have it: morpheus init --storagebox --yes"
        )
    if asking.answer(f"Make a Storage Box, {offer}? [y/N] ").lower() not in {"y", "yes"}:
        raise InvalidInputError("Nothing was made.")
