"""One forest's part of the registry, in the registry's own shape: what its nodes may know.

A node that is broken into must not tell of other forests, nor who holds this one and where.
"""

from dataclasses import replace

from morpheus.forest import Forest
from morpheus.registry import document
from morpheus.registry.document import Document


def part_of(forest: Forest) -> str:
    """The document that lists *forest* alone; the same for as long as its record is."""
    return document.render(Document(forests={forest.name: replace(forest, lease=None)}))
