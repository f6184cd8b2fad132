"""What a dry run tells of machines elsewhere: the plan itself, and what each machine needs beside."""

import pytest

from morpheus.elsewhere import with_machines
from morpheus.plan import Step, Verb, plan_plant, subjects
from tests.morpheus.model import DAMAGES, World, damaged, names, unplanted

BESIDE = (Verb.SEAL, Verb.PREPARE, Verb.ADMIT, Verb.ENTER, Verb.INSTALL, Verb.OWN_KEY)


def planned(world: World) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The plan, and the plan with machines."""
    assert world.forest
    steps = plan_plant(world.forest, world.seen())
    return steps, with_machines(steps, "oak")


@pytest.mark.parametrize(("nodes", "lost", "stopped"), DAMAGES)
def test_the_plan_itself_is_unchanged(nodes: int, lost: int, stopped: int) -> None:
    for world in (unplanted(nodes), damaged(nodes, lost, stopped)):
        steps, whole = planned(world)

        assert tuple(step for step in whole if step.verb not in BESIDE) == steps


@pytest.mark.parametrize(("nodes", "lost", "stopped"), DAMAGES)
def test_each_machine_is_ours_between_its_address_and_its_start(nodes: int, lost: int, stopped: int) -> None:
    for world in (unplanted(nodes), damaged(nodes, lost, stopped)):
        _, whole = planned(world)

        for name in subjects(whole, Verb.CREATE):
            wanted = [Verb.CREATE, Verb.RECORD, Verb.ENTER, Verb.INSTALL, Verb.OWN_KEY]
            order = [whole.index(Step(verb, name)) for verb in (*wanted, Verb.CONFIGURE, Verb.START)]
            assert order == sorted(order)
        for name in subjects(whole, Verb.REVIVE):
            assert whole.index(Step(Verb.ENTER, name)) < whole.index(Step(Verb.START, name))
            assert Step(Verb.OWN_KEY, name) not in whole


def test_secrets_and_what_servers_share_come_before_the_first_server() -> None:
    _, whole = planned(unplanted(3))

    assert [step.verb for step in whole[:3]] == [Verb.SEAL, Verb.PREPARE, Verb.CREATE]
    assert subjects(whole, Verb.ENTER) == names(1, 2, 3)


def test_a_script_runs_on_new_machines_alone() -> None:
    world = damaged(3, 1, 1)
    assert world.forest

    whole = with_machines(plan_plant(world.forest, world.seen()), "oak", script=True)

    assert subjects(whole, Verb.BOOTSTRAP) == subjects(whole, Verb.CREATE) == names(4)


def test_a_forest_that_lacks_nothing_needs_no_new_machine() -> None:
    _, whole = planned(damaged(3, 0, 0))

    assert {step.verb for step in whole} == {Verb.SEAL, Verb.CONFIGURE, Verb.VERIFY, Verb.ACTIVATE}
