"""How much JetStream may use: the defaults, or what fits; never a share that together is too much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from morpheus.machine.limits import GIB, LEAST_FILE, LEAST_MEMORY, MIB, Limits, limits_for, wanted_limits
from morpheus.settings import IntegrationSettings


def test_a_large_machine_gives_the_defaults() -> None:
    assert limits_for(64 * GIB, 1000 * GIB, 3) == Limits(1 * GIB, 10 * GIB)
    assert not limits_for(64 * GIB, 1000 * GIB, 3).below(Limits())


@pytest.mark.parametrize(
    ("ram", "disk", "nodes", "limits"),
    [
        (2 * GIB, 100 * GIB, 1, Limits(512 * MIB, 10 * GIB)),
        (16 * GIB, 20 * GIB, 3, Limits(1 * GIB, 5 * GIB)),
        (4 * GIB, 8 * GIB, 4, Limits(256 * MIB, 1536 * MIB)),
    ],
)
def test_a_small_machine_is_shared(ram: int, disk: int, nodes: int, limits: Limits) -> None:
    assert limits_for(ram, disk, nodes) == limits
    assert limits.below(Limits())


@given(st.integers(0, 2**45), st.integers(0, 2**50), st.integers(1, 100))
def test_all_nodes_together_leave_room_unless_that_helps_nobody(ram: int, disk: int, nodes: int) -> None:
    limits = limits_for(ram, disk, nodes)

    assert limits.memory == LEAST_MEMORY or limits.memory * nodes <= ram / 4
    assert limits.file == LEAST_FILE or limits.file * nodes <= disk * 3 / 4
    assert limits.memory % MIB == limits.file % MIB == 0


@pytest.mark.parametrize(
    ("ram", "wanted", "limits"),
    [
        (64 * GIB, Limits(4 * GIB, 50 * GIB), Limits(4 * GIB, 50 * GIB)),
        (64 * GIB, Limits(MIB, 2 * MIB), Limits(MIB, 2 * MIB)),
        (4 * GIB, Limits(4 * GIB, 90 * GIB), Limits(GIB, 75 * GIB)),
    ],
)
def test_what_the_operator_wants_counts_where_it_fits(ram: int, wanted: Limits, limits: Limits) -> None:
    given = limits_for(ram, 100 * GIB, 1, wanted)

    assert given == limits
    assert given.below(wanted) == (given != wanted)


def test_without_settings_the_defaults_are_wanted() -> None:
    assert wanted_limits(IntegrationSettings()) == Limits()
    assert wanted_limits(IntegrationSettings(jetstream_memory="512MB", jetstream_file="1TB")) == Limits(
        512 * MIB, 1024 * GIB
    )
