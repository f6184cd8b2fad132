"""The option that all commands take, and the argument that many do."""

from enum import StrEnum
from typing import Annotated

import typer


class Output(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="text for people, json for scripts.")]
NameArgument = Annotated[str | None, typer.Argument(help="The forest; left out, the only one is meant.")]
