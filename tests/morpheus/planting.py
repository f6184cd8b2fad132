"""Forests as tests record them, free or held by another machine."""

from dataclasses import replace
from datetime import datetime, timedelta

from morpheus.forest import Forest, Lease, Node
from morpheus.registry import Registry
from morpheus.registry.document import Document
from morpheus.registry.lease import DURATION

ELSEWHERE = {"host": "another machine", "boot": "b", "pid": 1, "start": 1}


def planted(name: str) -> Forest:
    return Forest(name, "hetzner").with_nodes(Node(f"{name}-node-1", "2001:db8::1", status="active"))


def held(registry: Registry, name: str, *, for_: timedelta = DURATION) -> None:
    """Let another machine hold the forest."""

    def change(document: Document, now: datetime) -> Document:
        lease = Lease("grow", "r0", "ada@forge", now, now + for_, ELSEWHERE)
        forest = replace(document.forests[name], lease=lease)
        epochs = {**document.epochs, name: document.epochs.get(name, 0) + 1}
        return replace(document.with_forest(forest), epochs=epochs)

    registry.update(change)
