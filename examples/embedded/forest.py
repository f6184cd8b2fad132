"""A workload that brings its own NATS server, for integration.nats_install: false (embedded mode).

It asks the machine who it is (/etc/morpheus/node-info.json) and the registry who else there is
(/mnt/forest/registry.json), makes a route of every other node of its forest, and becomes the NATS server
that is packed beside it. One living peer is enough: that one tells of the others.

Nothing but Python's own library is needed. build.py makes one file of this and the server.
"""

import hashlib
import ipaddress
import json
import os
import socket
import sys
import zipfile
from pathlib import Path
from typing import Any

INFO, REGISTRY = Path("/etc/morpheus/node-info.json"), Path("/mnt/forest/registry.json")
HOME, STORE = Path("/var/lib/nimsforest/data"), Path("/var/lib/nimsforest/jetstream")
SERVER = "nats-server"
MONITORED = "monitored"  # in the file where the server is to have its monitoring port

CONFIG = """\
server_name: "{node}"
listen: "[::]:4222"
{monitoring}
jetstream {{ store_dir: "{store}" }}
{cluster}
"""
CLUSTER = """\
cluster {{
  name: "{forest}"
  listen: "[{listen}]:6222"
  routes: [{routes}]
}}
"""


def own_addresses() -> set[str]:
    """The addresses of this machine, spelled as the registry spells them."""
    lines = Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines()
    return {ipaddress.IPv6Address(bytes.fromhex(line.split()[0])).compressed for line in lines} | own_ipv4()


def own_ipv4() -> set[str]:
    """The IPv4 address from which this machine speaks to others, if it has any; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        try:
            plug.connect(("192.0.2.1", 9))
        except OSError:
            return set()
        return {str(plug.getsockname()[0])}


def addresses(registry: dict[str, Any], forest: str) -> list[str]:
    """The addresses of all nodes of *forest*; the registry lists those machines alone that exist."""
    return [node["ip"] for node in registry.get("nodes", {}).get(forest, [])]


def config(info: dict[str, Any], registry: dict[str, Any], own: set[str], *, monitored: bool) -> str:
    """What the server is told; a node that is alone opens no port for routes."""
    listed = addresses(registry, info["forest_id"])
    peers = [ip for ip in listed if ip not in own]
    here = next((ip for ip in listed if ip in own), "::")
    routes = ", ".join(f'"nats-route://[{ip}]:6222"' for ip in peers)
    cluster = CLUSTER.format(forest=info["forest_id"], listen=here, routes=routes) if peers else ""
    monitoring = 'http: "[::]:8222"' if monitored else ""
    return CONFIG.format(node=info["node_id"], store=STORE, monitoring=monitoring, cluster=cluster)


def unpacked(archive: zipfile.ZipFile) -> Path:
    """The server as a file that can be run; written once, whole or not at all."""
    content = archive.read(SERVER)
    path = HOME / f"{SERVER}-{hashlib.sha256(content).hexdigest()[:16]}"
    if not path.exists():
        new = path.with_suffix(".new")
        new.write_bytes(content)
        new.chmod(0o700)
        new.rename(path)
    return path


def main() -> None:
    """Become the server."""
    info, registry = (json.loads(path.read_text(encoding="utf-8")) for path in (INFO, REGISTRY))
    with zipfile.ZipFile(sys.path[0]) as archive:
        server, monitored = unpacked(archive), MONITORED in archive.namelist()
    path = HOME / "nats.conf"
    path.write_text(config(info, registry, own_addresses(), monitored=monitored), encoding="utf-8")
    os.execv(server, [SERVER, "-c", str(path)])  # noqa: S606  # this process becomes it


if __name__ == "__main__":
    main()
