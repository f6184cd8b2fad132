"""The command line, on top of everything; reading commands never import Prefect.

Nothing is imported here before signals are obeyed: what follows takes longer than some people's patience.
"""

from morpheus.cli import signals


def main() -> None:
    """Run the command line."""
    signals.end_at_once()
    from morpheus.cli.app import run  # noqa: PLC0415  # this is what takes long

    run()


__all__ = ["main"]
