"""Names for forests whose planter gave none."""

import hashlib

_TREES = (  # noqa: SIM905  # a list of sixty quoted words is no easier to read
    "acacia alder apple ash aspen bay beech birch boxwood cedar cherry chestnut cypress dogwood ebony elder "
    "elm fig fir gum hawthorn hazel hemlock hickory holly hornbeam juniper larch laurel lemon lilac linden "
    "locust magnolia mahogany maple medlar mulberry myrtle oak olive palm pear pecan pine plane plum poplar "
    "quince redwood rowan sequoia sorb spruce sumac sycamore tamarack teak tulip walnut wattle willow yew "
    "zelkova"
).split()


def name_from(run: str) -> str:
    """A name that the same run always gets: a tree and four digits, such as ``rowan-3f9c``."""
    digest = hashlib.sha256(run.encode()).hexdigest()
    return f"{_TREES[int(digest[:8], 16) % len(_TREES)]}-{digest[8:12]}"
