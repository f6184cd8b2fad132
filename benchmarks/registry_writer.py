"""One writer of the benchmark ``registry``: says "ready", waits for a line, writes, tells how long each took.

Usage: python -m benchmarks.registry_writer ALGORITHM TYPE URL USER PASSWORD UPDATES
"""

import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import httpx

from morpheus import site
from morpheus.forest import Forest
from morpheus.registry import Registry
from morpheus.registry.document import Document
from morpheus.settings import RegistrySettings

LOCK = (
    b'<?xml version="1.0"?><lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope>'
    b"<locktype><write/></locktype></lockinfo>"
)


def one_more(document: Document, now: datetime) -> Document:
    """A change as a grow makes it: one more number of a forest is used."""
    del now
    forest = document.forests.get("oak", Forest("oak"))
    return document.with_forest(replace(forest, used_numbers=tuple(range(1, len(forest.used_numbers) + 2))))


def ours(settings: RegistrySettings) -> Callable[[], object]:
    """An update as Morpheus makes it."""
    registry = Registry(site.open_store(settings))
    return lambda: registry.update(one_more)


def locking(url: str, client: httpx.Client) -> Callable[[], None]:
    """The loop that one writes by hand: LOCK, GET, PUT, UNLOCK."""

    def update() -> None:
        while not attempt():
            time.sleep(random.uniform(0.001, 0.01))

    def attempt() -> bool:
        locked = client.request("LOCK", url, content=LOCK, headers={"Timeout": "Second-30", "Depth": "0"})
        if not locked.is_success:
            return False
        token = locked.headers["lock-token"]
        count = int(client.get(url).text or 0)
        written = client.put(url, content=str(count + 1).encode(), headers={"If": f"({token})"})
        client.request("UNLOCK", url, headers={"Lock-Token": token})
        return written.is_success

    return update


def etagged(url: str, client: httpx.Client) -> Callable[[], None]:
    """Compare-and-swap by ETag alone."""

    def update() -> None:
        while True:
            seen = client.get(url)
            headers = {"If-Match": seen.headers["etag"]}
            if client.put(url, content=str(int(seen.text) + 1).encode(), headers=headers).is_success:
                return
            time.sleep(random.uniform(0.05, 0.2))

    return update


def main(algorithm: str, place: Sequence[str], updates: int) -> None:
    kind, url, user, password = place
    client = httpx.Client(auth=httpx.BasicAuth(user, password) if user else None, timeout=30)
    given = {"type": kind, "url": url or None, "username": user or None, "password": password or None}
    choices: dict[str, Callable[[], Callable[[], object]]] = {
        "ours": lambda: ours(RegistrySettings.model_validate(given)),
        "lock": lambda: locking(url, client),
        "etag": lambda: etagged(url, client),
    }
    update = choices[algorithm]()
    print("ready", flush=True)
    sys.stdin.readline()
    taken = []
    for _ in range(updates):
        started = time.perf_counter()
        update()
        taken.append(time.perf_counter() - started)
    print(json.dumps(taken), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:6], int(sys.argv[6]))
