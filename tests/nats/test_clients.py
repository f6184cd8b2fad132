"""Connections of programs are shared out when servers come; what each of them wrote stays."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from morpheus.nats import clients
from morpheus.nats.clients import Guests
from tests.flows.traffic import connection
from tests.nats.conftest import Planter
from tests.nats.grove import Grove, wait_for

COUNT = 9


@pytest.fixture
def grove(plant: Planter) -> Grove:
    grove = plant(1, 2, 3)
    grove.start()
    grove.wait_formed()
    return grove


def counted(grove: Grove) -> Counter[str]:
    names = [node.name for node in grove.forest.nodes]
    guests = asyncio.run(clients.census(grove.urls(), grove.access.system_seed, names))
    return Counter({each.server: len(each.connections) for each in guests})


def test_who_is_beyond_the_share_of_an_old_server_goes_elsewhere(grove: Grove) -> None:
    seed, names = grove.access.system_seed, [node.name for node in grove.forest.nodes]

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            leave = asyncio.Event()
            for _ in range(COUNT):
                group.create_task(stay(leave))
            await asyncio.to_thread(wait_for, lambda: counted(grove)[names[0]], lambda n: n == COUNT)
            guests = await clients.census(grove.urls(), seed, names)
            leaving = clients.superfluous(guests, names[1:])
            await clients.send_away(grove.urls(), seed, leaving)
            seen = await asyncio.to_thread(
                wait_for, lambda: counted(grove), lambda each: each.total() == COUNT
            )
            leave.set()
        assert [len(each) for each in leaving.values()] == [COUNT - 3]
        assert seen[names[1]] + seen[names[2]] > 0

    async def stay(leave: asyncio.Event) -> None:
        async with connection(grove.urls()[:1]):
            await leave.wait()

    asyncio.run(run())


def test_more_connections_than_fit_into_a_page_are_counted(
    grove: Grove, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "PAGE", 4)

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(5):
                await stack.enter_async_context(connection(grove.urls()[:1]))
            seen = await asyncio.to_thread(counted, grove)
            assert seen[grove.forest.nodes[0].name] == 5

    asyncio.run(run())


NUMBERS = st.lists(st.integers(0, 30), min_size=1, max_size=6)


@given(NUMBERS, st.integers(0, 5), st.booleans())
def test_nobody_leaves_a_new_server_or_one_that_tells_of_no_other(
    numbers: Sequence[int], old: int, elsewhere: bool
) -> None:
    guests = [Guests(f"n{k}", f"N{k}", tuple(range(n)), elsewhere) for k, n in enumerate(numbers)]
    fresh = [each.server for each in guests[old:]]

    leaving = clients.superfluous(guests, fresh)

    assert not leaving or elsewhere
    assert not {each.id for each in guests if each.server in fresh} & leaving.keys()
    for each in guests[:old]:
        rest = len(each.connections) - len(leaving.get(each.id, ()))
        assert rest >= min(len(each.connections), sum(numbers) // len(numbers))
        assert tuple(leaving.get(each.id, ())) == each.connections[rest:]
