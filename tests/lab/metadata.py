"""The provider's metadata service, which every host reaches at 169.254.169.254 and nobody else does.

It has the keys of the real one, so no ``public-ipv6``; what is not there is ``not found``.
"""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

import yaml

from tests.lab.namespaces import Namespace
from tests.lab.network import GATEWAY6, METADATA, Line
from tests.lab.seed import vendor_data
from tests.simulator.hosts import Birth

ROOT = "/hetzner/v1/"
RESOLVERS = ["2a01:4ff:ff00::add:1", "2a01:4ff:ff00::add:2"]
LEAFS = ("hostname", "instance-id", "public-ipv4", "availability-zone", "region")


def answer(path: str, birth: Birth) -> str | None:
    """What a host is told about itself; None: not found."""
    known = _metadata(birth)
    if path == "metadata":
        return yaml.safe_dump(known, sort_keys=False)
    if path == "userdata":
        return birth.user_data
    if path == "metadata/private-networks":
        return "[]\n"
    leaf = path.removeprefix("metadata/")
    return str(known[leaf]) if leaf in LEAFS and leaf != path else None


def _metadata(birth: Birth) -> dict[str, Any]:
    return {
        "availability-zone": f"{birth.location}-dc1",
        "hostname": birth.name,
        "instance-id": birth.number,
        "local-ipv4": "",
        "network-config": _network(birth),
        "network-sysconfig": "DEVICE='eth0'\nTYPE=Ethernet\nONBOOT=yes\n",
        "public-ipv4": birth.ipv4 or "",
        "public-keys": list(birth.ssh_keys),
        "region": birth.zone,
        "vendor_data": vendor_data(birth),
    }


def _network(birth: Birth) -> dict[str, Any]:
    subnets: list[dict[str, Any]] = []
    if birth.ipv4:
        subnets.append({"ipv4": True, "type": "dhcp"})
    if address := Line("", birth.ipv6).address:
        subnet = {"address": f"{address}/64", "gateway": GATEWAY6, "ipv6": True, "type": "static"}
        subnets.append({"dns_nameservers": RESOLVERS, **subnet})
    return {"version": 1, "config": [{"type": "physical", "name": "eth0", "subnets": subnets}]}


class _Server(ThreadingHTTPServer):
    def server_bind(self) -> None:
        """Bind, and ask nobody for a name."""
        TCPServer.server_bind(self)


class Metadata:
    """The service, told by *who* which host has an address."""

    def __init__(self, router: Namespace, who: Callable[[str], Birth | None]) -> None:
        self.router, self.who = router, who

    def open(self) -> None:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.reply(self)

            def log_message(self, *_: object) -> None:
                pass

        with self.router.entered():
            self._server = _Server((METADATA, 80), Handler)
        threading.Thread(target=self._server.serve_forever, args=[0.1], daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply(self, request: BaseHTTPRequestHandler) -> None:
        birth = self.who(request.client_address[0])
        path = request.path.removeprefix(ROOT)
        found = answer(path, birth) if birth and path != request.path else None
        body = (found if found is not None else "not found").encode()
        request.send_response(404 if found is None else 200)
        request.send_header("Content-Type", "text/plain")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
