"""The command init: its options. What it does is in starting.py and, below the command line, founding.py."""

from typing import Annotated

import typer

from morpheus.cli import show
from morpheus.cli.output import Output, OutputOption
from morpheus.errors import InvalidInputError
from morpheus.interrupted import NOTHING, leaves


def init(  # noqa: PLR0913  # the options of the command
    url: Annotated[str | None, typer.Option("--url", help="An address that exists: WebDAV or S3.")] = None,
    username: Annotated[str | None, typer.Option("--username", help="User at that address.")] = None,
    box: Annotated[str | None, typer.Option("--box", help="The box, where there are several.")] = None,
    location: Annotated[str | None, typer.Option("--location", help="Where a box is made.")] = None,
    *,
    storagebox: Annotated[
        bool, typer.Option("--storagebox", help="A Storage Box at Hetzner, made where there is none.")
    ] = False,
    subaccount: Annotated[
        bool, typer.Option("--subaccount", help="As --storagebox, as a user of this device's own.")
    ] = False,
    none: Annotated[bool, typer.Option("--none", help="A file of this device only.")] = False,
    export: Annotated[
        bool, typer.Option("--export", help="Print the line that brings it to another device: a secret.")
    ] = False,
    import_: Annotated[bool, typer.Option("--import", help="Read that line from stdin.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether a box may be paid.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say where the registry is to stand that all devices share; asks, unless an option says it."""
    from morpheus.cli import starting  # noqa: PLC0415  # for a fast --help
    from morpheus.cli.choosing import Kind, Wish  # noqa: PLC0415  # for a fast --help

    chosen = {
        Kind.STORAGEBOX: storagebox,
        Kind.SUBACCOUNT: subaccount,
        Kind.URL: url is not None,
        Kind.NONE: none,
    }
    kinds = [kind for kind, wanted in chosen.items() if wanted]
    if len(kinds) + export + import_ > 1:
        raise InvalidInputError(
            "Choose one of --storagebox, --subaccount, --url, --none, --export, --import."
        )
    with leaves(NOTHING):
        if export:
            show.transfer(*starting.exported(), json=output is Output.JSON)
            return
        wish = Wish(kinds[0] if kinds else None, url, username, box, location, yes)
        outcome = starting.imported() if import_ else starting.run(wish)
    show.founded(outcome, json=output is Output.JSON)
