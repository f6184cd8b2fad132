"""A machine of a valley without a simulator: told of its birth, and entered."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr

from morpheus import openssh
from morpheus.cloud import Server
from morpheus.machine import cloudinit
from tests.flows.valleys import Valley
from tests.flows.valleys.machine import ValleyMachine
from tests.simulator.hosts import Birth

HOST, FOREST = openssh.from_seed(b"h" * 32), openssh.from_seed(b"f" * 32)


@contextlib.contextmanager
def born_in_valley(folder: Path) -> Iterator[ValleyMachine]:
    valley = Valley(folder)
    birth = Birth(
        number=1,
        name="oak-node-1",
        image="debian-13",
        ipv6="2001:db8::/64",
        ipv4=None,
        user_data=told("oak-node-1"),
    )
    valley.act("start_server", birth)
    server = Server("oak-node-1", "2001:db8::1", {}, {"host_key": HOST.public})
    try:
        yield valley.enter(SecretStr(FOREST.private)).machine(server)
    finally:
        valley.clear()


def told(node: str) -> str:
    """What the machine of *node* is told at birth."""
    return cloudinit.render(
        cloudinit.Birth(
            forest=node.rpartition("-node-")[0],
            node=node,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            host_key=HOST.private,
            host_key_public=HOST.public,
            authorized_keys=(FOREST.public,),
        )
    )
