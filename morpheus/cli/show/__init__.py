"""What commands print: tables and sentences for people, JSON for scripts (docs/output.md)."""

from morpheus.cli.show.forests import (
    ask_for_name,
    ask_for_node,
    ask_for_old_store,
    connection,
    doomed,
    forests,
    planted,
    removed,
    steps,
    torn_down,
)
from morpheus.cli.show.founding import founded, founded_before, transfer
from morpheus.cli.show.growth import grown, growth, growth_screen, growth_watched
from morpheus.cli.show.health import health, health_screen, watched
from morpheus.cli.show.kept import ask_to_restore, backups, moved, replaced, report
from morpheus.cli.show.settings import answers, changed, places, server, setting, settings, stopped, versions
from morpheus.cli.show.text import document, line_of, printable, sentence, warning

__all__ = [
    "answers",
    "ask_for_name",
    "ask_for_node",
    "ask_for_old_store",
    "ask_to_restore",
    "backups",
    "changed",
    "connection",
    "document",
    "doomed",
    "forests",
    "founded",
    "founded_before",
    "grown",
    "growth",
    "growth_screen",
    "growth_watched",
    "health",
    "health_screen",
    "line_of",
    "moved",
    "places",
    "planted",
    "printable",
    "removed",
    "replaced",
    "report",
    "sentence",
    "server",
    "setting",
    "settings",
    "steps",
    "stopped",
    "torn_down",
    "transfer",
    "versions",
    "warning",
    "watched",
]
