"""The commands that lead onto nodes: connect, ssh, logs. What they do is in modules of their own."""

from typing import Annotated

import typer
from typer.core import TyperCommand

from morpheus.cli import show
from morpheus.cli.output import NameArgument, Output, OutputOption
from morpheus.errors import InvalidInputError
from morpheus.interrupted import NOTHING, leaves

COMMAND = "morpheus.command"  # where a context keeps what stands behind --
CLOSED = "The tunnel is closed."
RAN = "What ran on the machines was told to end."

NodeArgument = Annotated[
    str | None, typer.Argument(help="The node, as node-2 or 2; left out, all of them are meant.")
]


class WithCommand(TyperCommand):
    """A command that keeps apart what stands behind ``--``: options and arguments of ours stand before."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # its own
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[COMMAND] = args[at + 1 :]
        return super().parse_args(ctx, args[:at])


def connect(
    name: NameArgument = None,
    *,
    system: Annotated[bool, typer.Option("--system", help="As the system account's user.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Write a context for the nats command, and print the environment an application needs.

    Where the machines of a forest are closed to clients, a tunnel leads to them, and stays until Ctrl-C.
    """
    from morpheus.cli import connecting, looking  # noqa: PLC0415  # for a fast --help

    with leaves(NOTHING), connecting.connected(looking.the_forest(name), system=system) as connection:
        show.connection(connection, json=output is Output.JSON)
        if connection.tunnelled:
            with leaves(CLOSED):
                connection.wait()
            show.warning(CLOSED)


def ssh(
    ctx: typer.Context,
    name: NameArgument = None,
    node: NodeArgument = None,
    *,
    output: OutputOption = Output.TEXT,
) -> None:
    """Log in to a machine, or run a command on all of them: morpheus ssh oak -- uptime."""
    from morpheus.cli import looking  # noqa: PLC0415  # for a fast --help

    command: list[str] = ctx.meta[COMMAND]
    with leaves(RAN if command else NOTHING):
        found = looking.the_forest(name)
        _check_elsewhere(found.forest.name, found.forest.provider)
        if command:
            from morpheus.cli import commanding  # noqa: PLC0415  # imports asyncssh

            code = commanding.run(found, node, command, json=output is Output.JSON)
        else:
            from morpheus.cli import login  # noqa: PLC0415  # imports asyncssh

            if output is Output.JSON:
                raise InvalidInputError("A login prints no JSON; say which command is to run, behind --.")
            code = login.log_in(found, node)
    if code:
        raise typer.Exit(code)


def _check_elsewhere(forest: str, provider: str) -> None:
    if provider == "local":
        raise InvalidInputError(
            f"The nodes of {forest} are processes of this computer, so there is nothing to log in to; what "
            f"they say is shown by morpheus logs {forest}."
        )


def logs(
    name: NameArgument = None,
    node: NodeArgument = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many of each node, at first.")
    ] = 100,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what the NATS servers and workloads of a forest say, in the order of their times."""
    from morpheus.cli import logs as logs_  # noqa: PLC0415  # for a fast --help
    from morpheus.cli import looking  # noqa: PLC0415  # for a fast --help

    with leaves(NOTHING):
        found = looking.the_forest(name)
        logs_.tell(found, node, lines=lines, follow=follow, json=output is Output.JSON)
