"""Programs' connections: how many each server has, and which of them are sent to look for another one."""

import asyncio
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import nats.errors
from nats.aio.client import Client

from morpheus.errors import MachineError, UnreachableError
from morpheus.machine import ACCOUNT
from morpheus.nats.admin import LIST_TIMEOUT, connected

PAGE = 1024  # connections that a server tells of at once
APART = 0.02  # seconds between two that are sent away, so that they do not come all at once


@dataclass(frozen=True, slots=True)
class Guests:
    """The programs at one server, by the numbers of their connections, the longest there first.

    ``elsewhere`` says that the server tells its programs of others, so that who is sent away may go there.
    """

    server: str
    id: str
    connections: tuple[int, ...] = field(repr=False)
    elsewhere: bool


def superfluous(guests: Sequence[Guests], fresh: Collection[str]) -> Mapping[str, Sequence[int]]:
    """Which connections leave their servers, by the servers' ids, for the *fresh* ones to have their share.

    The last that came go first. Nobody leaves a server that tells of no other: it would come back; pure.
    """
    share = math.ceil(sum(len(each.connections) for each in guests) / max(1, len(guests)))
    return {
        each.id: each.connections[share:]
        for each in guests
        if each.server not in fresh and each.elsewhere and len(each.connections) > share
    }


async def census(urls: Sequence[str], system_seed: str, servers: Collection[str]) -> tuple[Guests, ...]:
    """The programs at each of *servers*.

    Raises:
        UnreachableError: one of them does not say.
    """
    async with connected(urls, system_seed) as client:
        ids = await _ids(client, servers)
        return tuple([await _guests(client, name, ids[name]) for name in sorted(servers)])


async def send_away(urls: Sequence[str], system_seed: str, leaving: Mapping[str, Sequence[int]]) -> None:
    """End the connections *leaving*, by the ids of their servers; programs connect again by themselves.

    Raises:
        UnreachableError: a server does not answer.
        MachineError: it refuses.
    """
    async with connected(urls, system_seed) as client:
        for server, connections in leaving.items():
            for number in connections:
                await _asked(client, f"$SYS.REQ.SERVER.{server}.KICK", {"cid": number})
                await asyncio.sleep(APART)


async def _ids(client: Client, servers: Collection[str]) -> Mapping[str, str]:
    """The ids of *servers*, which they have anew at each start."""
    inbox, found = client.new_inbox(), dict[str, str]()
    answers = await client.subscribe(inbox)
    try:
        await client.publish("$SYS.REQ.SERVER.PING", reply=inbox)
        async with asyncio.timeout(LIST_TIMEOUT):
            while not found.keys() >= set(servers):
                told = json.loads((await answers.next_msg(LIST_TIMEOUT)).data)["server"]
                found[told["name"]] = told["id"]
    except (nats.errors.Error, TimeoutError) as error:
        silent = ", ".join(sorted({*servers} - {*found}))
        raise UnreachableError(f"{silent} did not answer the system account.") from error
    finally:
        await answers.unsubscribe()
    return found


async def _guests(client: Client, name: str, server: str) -> Guests:
    told = await _asked(client, f"$SYS.REQ.SERVER.{server}.VARZ", {})
    known = {*(told.get("connect_urls") or ())}
    numbers: list[int] = []
    while True:
        wanted = {"limit": PAGE, "offset": len(numbers), "acc": ACCOUNT, "sort": "start"}
        page = (await _asked(client, f"$SYS.REQ.SERVER.{server}.CONNZ", wanted))["connections"] or []
        numbers += [each["cid"] for each in page]
        if len(page) < PAGE:
            return Guests(name, server, tuple(numbers), len(known) > 1)


async def _asked(client: Client, subject: str, body: Mapping[str, Any]) -> Any:
    try:
        message = await client.request(subject, json.dumps(body).encode(), timeout=LIST_TIMEOUT)
    except (nats.errors.Error, TimeoutError) as error:
        raise UnreachableError(f"{subject}: {error or type(error).__name__}") from error
    answer = json.loads(message.data)
    if fault := answer.get("error"):
        raise MachineError(f"{subject}: {fault.get('description')}")
    return answer.get("data")
