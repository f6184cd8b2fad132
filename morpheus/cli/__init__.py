"""The command line, on top of everything; reading commands never import Prefect."""

from morpheus.cli.app import main

__all__ = ["main"]
