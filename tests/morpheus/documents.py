"""Documents of ours and of others, and how they differ."""

import json
from datetime import UTC, datetime
from typing import Any

from morpheus.forest import Forest, Lease, Migration, Node, Status
from morpheus.registry.document import Document, render

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

FOREIGN = """{
  "version": 1,
  "updated_at": "2025-03-04T05:06:07.123456789+05:45",
  "motto": "Ärger 🌲",
  "forests": {
    "oak": {
      "id": "oak", "provider": "hetzner", "location": "fsn1", "size": "medium", "status": "active",
      "created_at": "2024-02-29T23:59:59.999999999-11:30", "last_expansion": "0001-01-01T00:00:00Z",
      "owner": {"name": "Ada", "shares": [1, 2.5, null, true]}, "registry_url": null
    }
  },
  "nodes": {
    "oak": [
      {"id": "oak-node-1", "forest_id": "oak", "ip": "2001:db8::1", "role": "seed", "rack": 7,
       "created_at": "0001-01-01T00:00:00+02:00", "metadata": {"a": "b"}},
      {"id": "oak-node-2", "forest_id": "oak", "ip": "2001:db8::2"}
    ]
  }
}"""


def rendered(document: Document) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(render(document))
    return raw


def differences(before: Any, after: Any, path: str = "") -> set[str]:
    """The paths under which two JSON values differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = before.keys() | after.keys()
        missing = object()
        parts = (
            differences(before.get(key, missing), after.get(key, missing), f"{path}/{key}") for key in keys
        )
        return set().union(*parts)
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return set().union(*(differences(old, new, f"{path}/{k}") for k, (old, new) in pairs))
    return set() if before == after and type(before) is type(after) else {path}


def full_document() -> Document:
    lease = Lease("plant", "r1", "ada@forge", NOON, NOON, {"pid": 7})
    oak = Forest(
        "oak",
        provider="hetzner",
        location="fsn1",
        size="medium",
        status=Status.GROWING,
        created_at=NOON,
        registry_url="file:///x.json",
        last_expansion=NOON,
        run="r1",
        nodes=(
            Node("oak-node-1", "2001:db8::1", Status.ACTIVE, created_at=NOON, run="r1", metadata={"a": "b"}),
            Node("oak-node-2"),
            Node("oak-node-3", "2001:db8::3", Status.DELETING),
            Node("oak-node-4", status=Status.DELETING),
        ),
        used_numbers=(1, 2, 3, 4),
        migration=Migration("kept", "r1", "oak-node-1", "store-2", NOON, 1234, NOON),
        lease=lease,
    )
    return Document({"oak": oak, "elm": Forest("elm")}, "id", 7, {"oak": 3, "gone": 9}, ("w1", "w2"), NOON)
