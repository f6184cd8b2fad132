"""What morpheus init says."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from morpheus.cli.show.text import as_json, lines, say

if TYPE_CHECKING:
    from morpheus.cli.starting import Outcome
    from morpheus.kept import Access

KEYS = {
    "made": "Key for secrets: made here, and provable by a value beside the registry.",
    "proven": "Key for secrets: here, and proven to be the registry's.",
    "missing": "Key for secrets: not on this device. A line of morpheus init --export brings it; no second "
    "one is made.",
}


def founded(outcome: "Outcome", *, json: bool) -> None:
    """Where the registry stands, and what was done for that."""
    if json:
        registry = {"type": outcome.registry.type, "url": outcome.url, "username": outcome.registry.username}
        as_json(
            {
                "registry": registry,
                "key": outcome.key,
                "settings": str(outcome.settings),
                "changed": outcome.changed,
                "notes": list(outcome.notes),
            }
        )
        return
    say(*_sentences(outcome))


def founded_before(outcome: "Outcome") -> None:
    """The same before another result, which stdout is left to."""
    print(lines(*_sentences(outcome)), file=sys.stderr)


def transfer(access: "Access", warnings: Sequence[str], *, json: bool) -> None:
    """The line for another device, alone on stdout; as JSON also the key in it, as schedulers take it."""
    from morpheus import transfer as line  # noqa: PLC0415  # imports pydantic

    print(lines(*warnings), file=sys.stderr, flush=True)
    text = line.text(access)
    if json:
        as_json({"transfer": text, "key": access.key.get_secret_value() if access.key else None})
    else:
        print(text)


def _sentences(outcome: "Outcome") -> list[str]:
    only_here = (
        " This device only knows what is planted." if outcome.registry.type in {"none", "local"} else ""
    )
    what = f"The registry stands at {outcome.url}.{only_here}"
    if not outcome.changed:
        what = f"The registry is configured already: {outcome.url}."
    key = [KEYS[outcome.key]] if outcome.key else []
    settings = "unchanged" if not outcome.changed else "written"
    return [what, *key, *outcome.notes, f"Settings: {outcome.settings} ({settings})"]
