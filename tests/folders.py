"""Folders in which programs are at work while somebody looks into them."""

import contextlib
import os
from pathlib import Path


def standing(folder: Path) -> dict[Path, bytes]:
    """The files below *folder*; what goes while this looks, as a temporary file does, is not there."""
    found = {}
    for parent, _, names in os.walk(folder):  # which passes over folders that have gone
        for name in names:
            path = Path(parent, name)
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    found[path] = path.read_bytes()
    return found
