"""The real client, set up for a simulator."""

import base64
from collections.abc import Callable
from typing import Protocol

import hcloud
from hcloud.firewalls import FirewallRule
from hcloud.locations import Location
from hcloud.servers import CreateServerResponse, ServerCreatePublicNetwork
from hcloud.storage_box_types import StorageBoxType
from hcloud.storage_boxes import BoundStorageBox, StorageBoxAccessSettings

from tests.simulator import Simulator

SSH = FirewallRule(direction="in", protocol="tcp", port="22", source_ips=["::/0"])
Order = Callable[..., CreateServerResponse]
IPV6_ONLY = ServerCreatePublicNetwork(enable_ipv4=False, enable_ipv6=True)
BOX_PASSWORD = "Correct-horse-7"


def client_of(simulator: Simulator, token: str | None = None, timeout: float = 10) -> hcloud.Client:
    """A client that does not wait long between two requests."""
    url = f"{simulator.url}/v1"
    client = hcloud.Client(
        token or simulator.token,
        api_endpoint=url,
        api_endpoint_hetzner=url,
        poll_interval=0.01,
        timeout=timeout,
    )
    for each in (client._client, client._client_hetzner):
        each._retry_interval_func = lambda _: 0.01
    return client


def settled(created: CreateServerResponse) -> CreateServerResponse:
    """Wait for everything an order has begun."""
    for action in (created.action, *created.next_actions):
        action.wait_until_finished()
    return created


def ordered_box(
    client: hcloud.Client, name: str = "registry", password: str = BOX_PASSWORD
) -> BoundStorageBox:
    created = client.storage_boxes.create(
        name=name,
        password=password,
        location=Location(name="fsn1"),
        storage_box_type=StorageBoxType(name="bx11"),
        access_settings=StorageBoxAccessSettings(reachable_externally=True, webdav_enabled=True),
        labels={"managed-by": "morpheus"},
    )
    created.action.wait_until_finished()
    created.storage_box.reload()
    return created.storage_box


def public_key(number: int) -> str:
    blob = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20" + bytes([number] * 32)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} someone@example.com"


class Numbered(Protocol):
    """Anything of the client's, whose id may be missing as far as its types say."""

    id: int | None


def id_of(thing: Numbered) -> int:
    assert thing.id is not None
    return thing.id
