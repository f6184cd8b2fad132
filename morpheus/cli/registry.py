"""The commands that look after the registry itself. What they do is in keeping.py."""

from typing import Annotated

import typer

from morpheus.cli import show
from morpheus.cli.output import Output, OutputOption
from morpheus.interrupted import NOTHING, leaves

LocalOption = Annotated[bool, typer.Option("--local", help="The registry of this machine's own forests.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Also when something would be forgotten.")]

app = typer.Typer(no_args_is_help=True, help="Look after the registry itself.")


@app.command("show")
def show_document(
    *,
    local: LocalOption = False,
    published: Annotated[
        bool, typer.Option("--published", help="What another program wrote where ours is published.")
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print the document, which is JSON in any case."""
    from morpheus.cli import keeping  # noqa: PLC0415  # for a fast --help

    del output
    show.document(keeping.show(local=local, published=published))


@app.command("check")
def check(*, local: LocalOption = False, output: OutputOption = Output.TEXT) -> None:
    """Read all there is of the registry and say what is wrong; exit code 6 when something is."""
    from morpheus.cli import keeping  # noqa: PLC0415  # for a fast --help
    from morpheus.registry import care  # noqa: PLC0415  # for a fast --help

    report = care.check(keeping.store(local=local))
    show.report(report, json=output is Output.JSON)
    if report.faults:
        raise typer.Exit(6)


@app.command("backups")
def backups(*, local: LocalOption = False, output: OutputOption = Output.TEXT) -> None:
    """List the backups, newest first."""
    from morpheus.cli import keeping  # noqa: PLC0415  # for a fast --help
    from morpheus.registry import care  # noqa: PLC0415  # for a fast --help

    show.backups(care.backups(keeping.store(local=local)), json=output is Output.JSON)


@app.command("restore")
def restore(
    number: Annotated[
        int | None,
        typer.Argument(help="The backup, 1 is the newest; left out: ours, over another program's."),
    ] = None,
    *,
    local: LocalOption = False,
    force: ForceOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Put a backup back as a new revision, without leases."""
    from morpheus.cli import keeping  # noqa: PLC0415  # for a fast --help
    from morpheus.registry import care  # noqa: PLC0415  # for a fast --help

    store = keeping.store(local=local)
    if not yes:
        with leaves(NOTHING):
            wanted = care.restorable(store, number, force=force)
            options = [*([str(number)] if number else []), *(["--local"] if local else [])]
            show.ask_to_restore(store.url, wanted, [*options, *(["--force"] if force else [])])
    restored = care.restore(store, number, force=force)
    show.replaced(store.url, restored, json=output is Output.JSON)


@app.command("adopt")
def adopt(*, force: ForceOption = False, output: OutputOption = Output.TEXT) -> None:
    """Take over what another program wrote where the registry is published."""
    from morpheus.cli import keeping  # noqa: PLC0415  # for a fast --help
    from morpheus.registry import care  # noqa: PLC0415  # for a fast --help

    store = keeping.store(local=False)
    show.replaced(store.url, care.adopt(store, force=force), json=output is Output.JSON)


@app.command("migrate")
def migrate(
    to: Annotated[str, typer.Option("--to", help="URL of the new place, or a file that ends in .json.")],
    kind: Annotated[
        str | None,
        typer.Option(
            "--type",
            help="storagebox, s3 or local; left out, Hetzner's and Amazon's S3 are known by name.",
        ),
    ] = None,
    username: Annotated[str | None, typer.Option("--username", help="User of the new place.")] = None,
    *,
    output: OutputOption = Output.TEXT,
) -> None:
    """Move the registry to another store; the old one then names the new one, and refuses every writer."""
    from morpheus.cli import keeping  # noqa: PLC0415  # for a fast --help

    show.moved(*keeping.migrate(to, kind, username), json=output is Output.JSON)
