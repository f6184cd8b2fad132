"""Servers of which nothing is known: the greeting with which each meets clients, and a message through them.

A workload may bring its own NATS server, without monitoring and without anybody of ours among its users. What
is asked here every NATS server answers: it sends INFO before a client has said a word.
"""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Sequence

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from morpheus.errors import NotReadyError, UnreachableError
from morpheus.nats.admin import connected
from morpheus.nats.monitor import TIMEOUT, Reading

LONGEST = 2**20  # bytes of a greeting: it lists all servers of its cluster
SUBJECT = "morpheus.passed."
AGAIN = 0.05  # seconds until the message is sent once more
NOBODY = "no server let us in"


async def greet(host: str, port: int, *, timeout: float = TIMEOUT) -> Reading:  # noqa: ASYNC109  # of the answer
    """What one server says before it is asked; every fault becomes the reading's ``error``."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port, limit=LONGEST)
            try:
                verb, _, told = (await reader.readuntil(b"\r\n")).partition(b" ")
            finally:
                writer.close()
        info = json.loads(told) if verb == b"INFO" else None
        if not isinstance(info, dict):
            return Reading(error="what answers on its client port is no NATS server")
        return Reading(
            server=str(info.get("server_name", "")), version=str(info.get("version", "")), measured=False
        )
    except TimeoutError:
        return Reading(error=f"no greeting within {timeout:g} s")
    except (OSError, asyncio.IncompleteReadError):
        return Reading(error="nothing answers on its client port")
    except (ValueError, asyncio.LimitOverrunError):
        return Reading(error="what answers on its client port is no NATS server")


def greet_all(addresses: Sequence[tuple[str, int]], *, timeout: float = TIMEOUT) -> list[Reading]:
    """Hear all servers at once; the readings come in the order of *addresses*."""

    async def hear() -> list[Reading]:
        return list(await asyncio.gather(*(greet(host, port, timeout=timeout) for host, port in addresses)))

    return asyncio.run(hear())


async def passed(urls: Sequence[str], *, timeout: float) -> float:  # noqa: ASYNC109  # of the whole
    """Send a message into the first server until it has come out of each of the others, or of itself alone.

    Nothing is stored anywhere. Routes may still be under way, so it is tried for *timeout* seconds.

    Returns:
        Seconds it took.

    Raises:
        NotReadyError: it did not come through in time; says what was seen last.
    """
    started = time.monotonic()
    last = ""  # the end of our own patience explains less than what was said before
    while (left := timeout - (time.monotonic() - started)) > 0:
        try:
            async with asyncio.timeout(left):
                await _pass_once(urls)
        except TimeoutError:
            last = last or "what was sent into one server did not come out of every other"
        except (UnreachableError, nats.errors.Error, OSError) as error:
            last = str(error).rstrip(".") or type(error).__name__
            await asyncio.sleep(AGAIN)
        else:
            return time.monotonic() - started
    raise NotReadyError(
        f"No message passed between the servers within {timeout:.0f} s; last seen: {last or NOBODY}."
    )


async def _pass_once(urls: Sequence[str]) -> None:
    subject, word = SUBJECT + uuid.uuid4().hex, uuid.uuid4().hex.encode()
    async with contextlib.AsyncExitStack() as stack:
        sender = await stack.enter_async_context(connected(urls[:1]))
        receivers = [await stack.enter_async_context(connected([url])) for url in urls[1:] or urls]
        heard = [await _heard(each, subject, word) for each in receivers]
        while not all(each.is_set() for each in heard):
            await sender.publish(subject, word)
            await sender.flush()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*(each.wait() for each in heard)), AGAIN)


async def _heard(client: Client, subject: str, word: bytes) -> asyncio.Event:
    """What is set once *word* came to *client*."""
    event = asyncio.Event()

    async def hear(message: Msg) -> None:
        if message.data == word:
            event.set()

    await client.subscribe(subject, cb=hear)
    await client.flush()
    return event
