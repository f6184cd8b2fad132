"""Addresses that are paid for, and do not go with their server because somebody said so.

Those of our servers go with them unless auto_delete was switched off. IPv6 costs nothing: no look at it.
"""

import logging
from collections.abc import Mapping, Sequence

from hcloud.primary_ips import BoundPrimaryIP
from hcloud.servers import BoundServer

from morpheus.cloud.hetzner.api import Api, MissingError
from morpheus.errors import MorpheusError

log = logging.getLogger("morpheus.cloud")


class Addresses:
    """The IPv4 addresses of one project's servers."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def staying(self, servers: Sequence[BoundServer]) -> Mapping[int | None, BoundPrimaryIP]:
        """Those that do not go with their server, by its id; one request, and none without IPv4."""
        paid = {net.primary_ipv4.id for each in servers if (net := each.public_net) and net.primary_ipv4}
        if not paid:
            return {}
        with self._api.call("list the primary IPs"):
            known = self._api.client.primary_ips.get_all()
        return {each.assignee_id: each for each in known if each.id in paid and not each.auto_delete}

    def part(self, address: BoundPrimaryIP, registry_id: str, server: str) -> None:
        """Remove *address*, whose *server* is gone, when it has our labels; else say that it is there."""
        fault = ""
        if is_ours(address, registry_id):
            try:
                with self._api.call(f"remove the primary IP {address.name}"):
                    address.delete()
            except MissingError:
                return
            except MorpheusError as error:  # nobody comes back for it, for its server is gone
                fault = f" {error}"
            else:
                return
        log.warning(
            "%s: its primary IP %s (%s) stays, and costs: delete it in the Cloud Console (Primary IPs), "
            "unless something else is to have it.%s",
            *(server, address.name, address.ip, fault),
        )


def is_ours(address: BoundPrimaryIP, registry_id: str) -> bool:
    return (address.labels or {}).get("registry-id") == registry_id
