"""The steps of a plant that machines elsewhere need beside those of :mod:`morpheus.plan`.

They follow from these: the secrets come first, what the servers share before the first of them, and each
machine that was made or made sure of is entered, equipped and made ours before it is configured.
"""

import itertools

from morpheus.plan import Step, Verb, subjects

MADE = (Verb.REVIVE, Verb.CREATE)


def with_machines(steps: tuple[Step, ...], forest: str, *, script: bool = False) -> tuple[Step, ...]:
    """*steps*, a plan for *forest*, with those of its machines; new ones may run a *script*."""
    planned = [Step(Verb.SEAL, forest)]
    made: list[Step] = []
    for verb, group in itertools.groupby(steps, lambda step: step.verb):
        run = tuple(group)
        if verb is Verb.CREATE:
            planned.append(Step(Verb.PREPARE, forest))
        if verb in MADE:
            made += run
        planned += run
        if verb is Verb.RECORD:
            planned += _made_ours(tuple(made), forest, script=script)
            made = []
    return tuple(planned)


def _made_ours(made: tuple[Step, ...], forest: str, *, script: bool) -> list[Step]:
    """What is done to the machines that were just *made*; those that were there have their own host keys."""
    created = subjects(made, Verb.CREATE)
    names = [step.subject for step in made]
    return [
        Step(Verb.ADMIT, forest),
        *(Step(Verb.ENTER, name) for name in names),
        *(Step(Verb.BOOTSTRAP, name) for name in created if script),
        *(Step(Verb.INSTALL, name) for name in names),
        *(Step(Verb.OWN_KEY, name) for name in created),
    ]
