"""Another program that reads the registry, written from the description of its shape alone (R1.2).

It knows nothing of Morpheus. As those programs do, it refuses the whole document for one wrong type, and
makes a route of every node but its own.
"""

import ipaddress
import json
import re
from typing import Any

FOREST_TEXTS = ("id", "provider", "location", "size", "status", "registry_url")
FOREST_TIMES = ("created_at", "last_expansion")
NODE_TEXTS = ("id", "forest_id", "ip", "ipv4", "ipv6", "role", "status", "location")
NODE_TIMES = ("created_at",)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


class UnreadableError(Exception):
    """The document is not as it was agreed upon; says where."""


def routes(text: str, forest: str, own_ip: str) -> list[str]:
    """The routes that the node with *own_ip* makes to the other nodes of *forest*."""
    nodes = read(text)["nodes"].get(forest, [])
    return [f"[{node['ip']}]:6222" for node in nodes if node["ip"] != own_ip]


def read(text: str) -> dict[str, Any]:
    """The document, every field of it checked."""
    document = json.loads(text)
    _check_kind(document, dict, "the document")
    if document.get("version") != 1 or isinstance(document["version"], bool):
        raise UnreadableError("version is not the integer 1")
    _check_time(document, "updated_at", "the document")
    for part in ("forests", "nodes"):
        _check_kind(document.get(part), dict, part)
    for name, forest in document["forests"].items():
        _check_forest(name, forest)
    for name, nodes in document["nodes"].items():
        _check_nodes(name, nodes)
    return dict(document)


def _check_forest(name: str, forest: Any) -> None:
    _check_kind(forest, dict, name)
    for field in FOREST_TEXTS:
        _check_text(forest, field, name)
    for field in FOREST_TIMES:
        _check_time(forest, field, name)
    if forest.get("id", name) != name:
        raise UnreadableError(f"{name} has another id")
    if forest.get("size", "custom") not in {"small", "medium", "large", "custom"}:
        raise UnreadableError(f"{name} has no known size")
    if "registry_url" in forest and "@" in forest["registry_url"]:
        raise UnreadableError(f"{name} tells credentials")


def _check_nodes(forest: str, nodes: Any) -> None:
    _check_kind(nodes, list, forest)
    for node in nodes:
        _check_kind(node, dict, forest)
        if not {"id", "ip"} <= node.keys():
            raise UnreadableError(f"a node of {forest} has no id or no ip")
        for field in NODE_TEXTS:
            _check_text(node, field, node["id"])
        for field in NODE_TIMES:
            _check_time(node, field, node["id"])
        if node.get("forest_id", forest) != forest:
            raise UnreadableError(f"{node['id']} belongs to another forest")
        _check_address(node)
        metadata = node.get("metadata", {"": ""})
        _check_kind(metadata, dict, node["id"])
        if not metadata or not all(isinstance(value, str) for value in metadata.values()):
            raise UnreadableError(f"{node['id']} has metadata that is empty or no text")
    ids, ips = [node["id"] for node in nodes], [(node["ip"], str(node.get("metadata"))) for node in nodes]
    if len({*ids}) < len(ids) or len({*ips}) < len(ips):
        raise UnreadableError(f"{forest} lists a node twice")


def _check_address(node: dict[str, Any]) -> None:
    try:
        address = ipaddress.ip_address(node["ip"])
    except ValueError as error:
        raise UnreadableError(f"{node['id']} has no bare address: {node['ip']!r}") from error
    if str(address) != node["ip"]:
        raise UnreadableError(f"{node['id']} has an address that is not in its shortest form: {node['ip']}")


def _check_kind(value: Any, kind: type, where: str) -> None:
    if not isinstance(value, kind):
        raise UnreadableError(f"{where}: expected {kind.__name__}, found {value!r}")


def _check_text(raw: dict[str, Any], field: str, where: str) -> None:
    if field in raw and (not isinstance(raw[field], str) or not raw[field]):
        raise UnreadableError(f"{where}: {field} is {raw[field]!r}")


def _check_time(raw: dict[str, Any], field: str, where: str) -> None:
    if field in raw and not (isinstance(raw[field], str) and TIME.fullmatch(raw[field])):
        raise UnreadableError(f"{where}: {field} is {raw[field]!r}")
