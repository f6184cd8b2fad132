"""The commands; those of the registry in registry.py, those that lead onto nodes in machines.py.

What they show is in show/, how they run flows in running.py, up and down in server.py.
"""

import functools
from enum import StrEnum
from typing import Annotated

import typer

from morpheus.cli import faults, init, machines, registry, show
from morpheus.cli.output import NameArgument, Output, OutputOption
from morpheus.errors import InvalidInputError, NotReadyError
from morpheus.forest import MAX_NODES, Size, size_warning
from morpheus.interrupted import NOTHING, leaves


class Part(StrEnum):
    """What can be checked."""

    CONFIG = "config"
    NETWORK = "network"
    SSH = "ssh"
    REGISTRY = "registry"
    CLOUD = "cloud"


SizeArgument = Annotated[
    Size | None,
    typer.Argument(help="small is 1 node, medium 3, large 5; left out: as it is, medium for a new one."),
]
NodesOption = Annotated[
    int | None, typer.Option("--nodes", help=f"Number of nodes instead of a size, 1 to {MAX_NODES}.")
]
NameOption = Annotated[str | None, typer.Option("--name", help="Name of the forest; made up when left out.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
KeepOption = Annotated[
    bool, typer.Option("--keep", help="When it fails, leave what was created for a later run.")
]

app = typer.Typer(
    cls=faults.Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Plant NATS forests, watch them, grow them, and take them down.",
)
plant_app = typer.Typer(no_args_is_help=True, help="Plant a forest, or heal one that lost something.")
app.add_typer(plant_app, name="plant")
node_app = typer.Typer(no_args_is_help=True, help="Look after one node of a forest.")
app.add_typer(node_app, name="node")
app.add_typer(registry.app, name="registry")
config_app = typer.Typer(no_args_is_help=True, help="Look at the settings, and change them.")
app.add_typer(config_app, name="config")


app.command("init")(init.init)


@plant_app.command("local")
def plant_local(  # noqa: PLR0913  # the options of the command
    size: SizeArgument = None,
    nodes: NodesOption = None,
    name: NameOption = None,
    *,
    dry_run: DryRunOption = False,
    keep: KeepOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Plant on this machine: real servers as processes, no cloud, no Docker."""
    _plant("local", size, nodes, name, dry_run=dry_run, keep=keep, output=output)


@plant_app.command("cloud")
def plant_cloud(  # noqa: PLR0913  # the options of the command
    size: SizeArgument = None,
    nodes: NodesOption = None,
    name: NameOption = None,
    *,
    dry_run: DryRunOption = False,
    keep: KeepOption = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Plant with the provider that morpheus.yaml names."""
    _plant("settings", size, nodes, name, dry_run=dry_run, keep=keep, output=output)


def _plant(  # noqa: PLR0913  # the options of the command
    cloud: str,
    size: Size | None,
    nodes: int | None,
    name: str | None,
    *,
    dry_run: bool,
    keep: bool,
    output: Output,
) -> None:
    from morpheus.cli import running  # noqa: PLC0415  # reading commands start without it

    if dry_run:
        forest, steps = running.plan(cloud, size, nodes, name)
        show.warning(size_warning(len(forest.staying)))  # a run says it itself
        show.steps(forest, steps, json=output is Output.JSON)
        return
    show.planted(running.plant(cloud, size, nodes, name, keep=keep), json=output is Output.JSON)


@app.command("list")
def list_forests(*, output: OutputOption = Output.TEXT) -> None:
    """List every forest of every registry, and what the cloud has of it."""
    from morpheus import settings, site  # noqa: PLC0415  # for a fast --help
    from morpheus.cli import listing  # noqa: PLC0415  # for a fast --help

    current = settings.load()
    urls = [registry.url for registry in site.registries(current)]
    known = site.what_is_known(current)
    if known.forests or not known.faults:
        census = listing.census(known, current)
        place, as_json = listing.place_to_plant(current), output is Output.JSON
        show.forests(known.forests, urls, known.faults, census, can_plant=place, json=as_json)
    for fault in known.faults:  # the list is not whole, so the command has failed
        raise fault


@app.command()
def status(
    name: NameArgument = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show a forest's nodes as they are now; exit code 7 when it is not formed."""
    from morpheus.cli import looking  # noqa: PLC0415  # for a fast --help

    found = looking.the_forest(name)
    if watch:
        health = show.watched(looking.looks(found), found.registry.url, json=output is Output.JSON)
    else:
        health = looking.examine(found)
        show.health(health, found.registry.url, json=output is Output.JSON)
    if not health.formation.formed:
        name, formation = found.forest.name, health.formation
        verdict = f"{name} is not formed" if formation.known else f"Whether {name} is formed is not known"
        raise NotReadyError(f"{verdict}: {formation.reason}.")


@app.command()
def grow(  # noqa: PLR0913  # the options of the command
    name: NameArgument = None,
    *,
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", help="How many it is to have; else what the load calls for."),
    ] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="Ask nobody, keep the cooldown; without NAME every forest.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRunOption = False,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=1, max=100, help="Percent, in the place of every threshold."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Check again and again, and never grow.")] = False,
    discard: Annotated[
        bool,
        typer.Option("--discard-old-store", help="Remove what one node left that became three; never grow."),
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Check whether a forest needs more nodes, and add them; exit codes are in docs/grow.md."""
    from morpheus.cli import growing  # noqa: PLC0415  # for a fast --help

    if (watch and (nodes or auto or yes or dry_run)) or (auto and nodes):
        raise InvalidInputError(
            "--watch only looks, and --auto adds what the load calls for: leave one of the options out."
        )
    as_json, wish = output is Output.JSON, growing.Wish(nodes, auto, yes)
    if discard:
        if watch or nodes or auto or dry_run or threshold:
            raise InvalidInputError("--discard-old-store only removes that: leave the other options out.")
        show.sentence(growing.discard(name, yes=yes, ask=show.ask_for_old_store), json=as_json)
        return
    seen = functools.partial(show.growth, json=as_json)
    done = functools.partial(show.grown, json=as_json)
    if watch:
        checks = growing.checks(growing.meant(name), threshold)
        code = growing.EXIT_CODES[show.growth_watched(checks, json=as_json).verdict.outcome]
    elif auto and name is None:
        code = growing.everywhere(threshold, dry_run=dry_run, seen=seen, done=done)
    else:
        code = growing.one(growing.meant(name), threshold, wish, dry_run=dry_run, seen=seen, done=done)
    if code:
        raise typer.Exit(code)


app.command("connect")(machines.connect)
app.command("ssh", cls=machines.WithCommand)(machines.ssh)
app.command("logs")(machines.logs)


@app.command()
def teardown(
    name: NameArgument = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRunOption = False,
    gone: Annotated[
        bool, typer.Option("--gone", help="Also when the cloud has nothing of it: its machines are gone.")
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Remove a forest: its servers and all their data first, then its record."""
    from morpheus.cli import running  # noqa: PLC0415  # reading commands start without it

    with leaves(NOTHING):
        doomed = running.to_tear_down(name, look=dry_run or not yes, gone=gone)
        if dry_run:
            show.doomed(doomed, json=output is Output.JSON)
            return
        if not yes:
            show.ask_for_name(doomed)
    show.torn_down(doomed.name, running.teardown(doomed.name, gone=gone), json=output is Output.JSON)


@node_app.command("remove")
def node_remove(
    name: Annotated[str, typer.Argument(help="The forest.")],
    node: Annotated[str, typer.Argument(help="Its node, such as node-4.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take a node out of a forest that goes on: its streams move to the others first."""
    from morpheus.cli import running  # noqa: PLC0415  # reading commands start without it

    with leaves(NOTHING):
        forest, leaving = running.to_remove(name, node)
        if not yes:
            show.ask_for_node(forest, leaving)
    show.removed(running.remove_node(forest.name, leaving.name), leaving, json=output is Output.JSON)


@app.command()
def unlock(
    name: Annotated[str, typer.Argument(help="The forest.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Also while its holder may live.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Free a forest whose holder is gone; who lives after all stops before its next step."""
    from morpheus.cli import keeping  # noqa: PLC0415  # for a fast --help

    show.sentence(keeping.unlock(name, force=force), json=output is Output.JSON)


@app.command()
def check(
    part: Annotated[Part | None, typer.Argument(help="One part; left out, all of them.")] = None,
    *,
    output: OutputOption = Output.TEXT,
) -> None:
    """Ask whether everything is there that forests need, and change nothing; each line says what to do."""
    from morpheus.cli import checking  # noqa: PLC0415  # for a fast --help

    answers = checking.ask(part.value if part else None)
    show.answers(answers, json=output is Output.JSON)
    if code := next((each.exit_code for each in answers if each.exit_code), 0):
        raise typer.Exit(code)


@config_app.command("path")
def config_path(*, output: OutputOption = Output.TEXT) -> None:
    """Show where the settings stand, and the folders for data and cache."""
    from morpheus.cli import configuring  # noqa: PLC0415  # for a fast --help

    show.places(configuring.places(), json=output is Output.JSON)


@config_app.command("list")
def config_list(*, output: OutputOption = Output.TEXT) -> None:
    """List every setting and where its value comes from; secrets are masked."""
    from morpheus.cli import configuring  # noqa: PLC0415  # for a fast --help

    show.settings(configuring.entries(), json=output is Output.JSON)


@config_app.command("get")
def config_get(
    key: Annotated[str, typer.Argument(help="Such as growth.max_nodes.")],
    *,
    reveal: Annotated[bool, typer.Option("--show", help="Secrets, too.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Print the value of one setting; a secret is masked."""
    from morpheus.cli import configuring  # noqa: PLC0415  # for a fast --help

    show.setting(configuring.entry(key), reveal=reveal, json=output is Output.JSON)


@config_app.command("set", context_settings={"ignore_unknown_options": True})  # a value may be -5
def config_set(
    key: Annotated[str, typer.Argument(help="Such as growth.max_nodes.")],
    value: Annotated[
        str,
        typer.Argument(help="Several with commas; null for none; - to be asked, or to read it from a pipe."),
    ],
    more: Annotated[
        list[str] | None, typer.Argument(help="More keys and values, which are changed together.")
    ] = None,
    *,
    output: OutputOption = Output.TEXT,
) -> None:
    """Change settings in morpheus.yaml, which is made when there is none; what stands beside them stays."""
    from morpheus.cli import configuring  # noqa: PLC0415  # for a fast --help

    show.changed(configuring.change([key, value, *(more or ())]), json=output is Output.JSON)


@app.command()
def up(*, output: OutputOption = Output.TEXT) -> None:
    """Start a Prefect server and worker in the background, with all deployments."""
    from morpheus.cli import progress, server  # noqa: PLC0415  # for a fast --help

    with progress.shown("Starting Prefect's server, worker and deployments (half a minute or so) ..."):
        running = server.up()
    show.server(running, json=output is Output.JSON)


@app.command()
def down(
    *,
    force: Annotated[bool, typer.Option("--force", help="Also when flows are running.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Stop the Prefect server and worker that up started; forests stay as they are."""
    from morpheus.cli import progress, server  # noqa: PLC0415  # for a fast --help

    with progress.shown("Stopping Prefect's worker and server ..."):
        was_running = server.down(force=force)
    show.stopped(was_running=was_running, json=output is Output.JSON)


@app.command()
def version(*, output: OutputOption = Output.TEXT) -> None:
    """Show the versions of Morpheus and of what it uses."""
    from morpheus.cli import looking  # noqa: PLC0415  # for a fast --help

    show.versions(looking.versions(), json=output is Output.JSON)


def run() -> None:
    """Run the command that was given."""
    try:
        app()
    finally:
        faults.flush()
