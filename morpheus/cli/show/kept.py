"""The registry's state, its backups, and what took its place."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from morpheus.cli.show.text import UNKNOWN, as_json, confirm, lines, me, moment, say, table

if TYPE_CHECKING:
    from morpheus.registry.care import Kept, Report
    from morpheus.registry.document import Document


def report(found: "Report", *, json: bool) -> None:
    """What a check of the registry found."""
    if json:
        as_json({**asdict(found), "faults": list(found.faults)})
        return
    counts = f"{found.forests} forest(s), {found.nodes} node(s), revision {found.revision}"
    fine = "There is no registry here yet; the first plant makes it." if found.empty else "All is well."
    verdict = [f"FAULT: {each}" for each in found.faults] or [fine]
    say(f"Registry: {found.url}", f"{counts}, {found.backups} backup(s)", *verdict)


def backups(kept: Sequence["Kept"], *, json: bool) -> None:
    """The backups of the registry."""
    if json:
        as_json({"backups": [_backup(each) for each in kept]})
        return
    if not kept:
        print("There are no backups yet.")
        return
    rows = [
        (
            str(each.number),
            str(each.document.revision) if each.document else "cannot be read",
            (moment(each.document.updated_at) if each.document else None) or UNKNOWN,
            ", ".join(each.document.forests) if each.document else UNKNOWN,
            each.where,
        )
        for each in kept
    ]
    print(lines(*table(("NUMBER", "REVISION", "WRITTEN (UTC)", "FORESTS", "WHERE"), *rows)))


def _backup(each: "Kept") -> dict[str, Any]:
    kept = each.document
    return {
        "number": each.number,
        "where": each.where,
        "revision": kept.revision if kept else None,
        "updated_at": moment(kept.updated_at) if kept else None,
        "forests": list(kept.forests) if kept else None,
    }


def ask_to_restore(url: str, wanted: "Document", options: Sequence[str]) -> None:
    """Show what takes the place of the registry at *url*, and have somebody agree before.

    Raises:
        InvalidInputError: nobody did, or nobody is there, who is told the command with its *options*.
    """
    names = ", ".join(wanted.forests) or "no forests"
    written = f", written {moment(wanted.updated_at)}" if wanted.updated_at else ""
    told = [
        f"{url} goes back to revision {wanted.revision}{written}, with {names}.",
        "What was changed since is forgotten there; what stands there now is kept as a backup.",
    ]
    again = " ".join([me(), "registry", "restore", *options, "--yes"])
    confirm(told, "Type yes to put it back: ", ("yes",), again)


def replaced(url: str, restored: "Document", *, json: bool) -> None:
    """The registry after something took its place."""
    if json:
        as_json({"registry": url, "revision": restored.revision, "forests": list(restored.forests)})
    else:
        names = ", ".join(restored.forests) or "no forests"
        say(f"{url} is revision {restored.revision} now, with {names}.")


def moved(old: str, new: str, document: "Document", *, json: bool) -> None:
    """Where the registry is from now on."""
    if json:
        as_json({"from": old, "to": new, "forests": list(document.forests)})
        return
    from morpheus.registry import FOLLOW  # noqa: PLC0415  # for a fast --help

    say(
        f"The registry stands at {new} now, with {len(document.forests)} forest(s).",
        f"{old} was moved to {new}: {FOLLOW}.",
    )
