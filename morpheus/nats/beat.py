"""Showing that one goes on, for whoever would else believe that nobody is there any more."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Answer = TypeVar("Answer")

Beat = Callable[[], None]
"""Called between parts, for who has to show that it goes on; what it raises ends the work."""

EVERY = 0.5  # seconds between two beats of who waits for an answer


def silent() -> None:
    """Nobody has to know."""


async def beating(beat: Beat, awaited: Awaitable[Answer]) -> Answer:
    """What comes of *awaited*, with a *beat* now and then as long as that takes."""
    task = asyncio.ensure_future(awaited)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=EVERY)
            beat()
        return task.result()
    finally:
        task.cancel()
