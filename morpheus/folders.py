"""Where this user's files stand: the settings, the data, what was fetched.

morpheus.yaml is looked for in ``.``, ``~/.config/morpheus/`` and ``/etc/morpheus/``; the first one found
counts alone. ``MORPHEUS_CONFIG`` names another one, ``MORPHEUS_DATA_DIR`` the folder for local data.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from morpheus.errors import InvalidInputError

NAME = "morpheus.yaml"


def data_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of this user's local forests, registry and Prefect server, absolute.

    Raises:
        InvalidInputError: as :func:`placed`.
    """
    named = environment.get("MORPHEUS_DATA_DIR")
    return placed(named, "MORPHEUS_DATA_DIR") if named else platformdirs.user_data_path("morpheus").absolute()


def cache_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of fetched programs: beside the data where that was named, else the platform's."""
    named = environment.get("MORPHEUS_DATA_DIR")
    return data_dir(environment) / "cache" if named else platformdirs.user_cache_path("morpheus")


def config_path(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The morpheus.yaml that counts; None when there is none.

    A current folder that is closed or gone has none: nobody who runs a command in one means it.

    Raises:
        InvalidInputError: MORPHEUS_CONFIG names a file that is not there, or a folder is closed to this user.
    """
    if named := environment.get("MORPHEUS_CONFIG"):
        path = placed(named, "MORPHEUS_CONFIG", absolute=False)
        if not _is_there(path):
            raise InvalidInputError(
                f"MORPHEUS_CONFIG names {path}, which is not there: make it with morpheus config set KEY "
                "VALUE, or unset the variable."
            )
        return path
    with contextlib.suppress(OSError):
        if Path(NAME).exists():
            return Path(NAME)
    others = (_home(environment) / NAME, Path("/etc/morpheus", NAME))
    return next(filter(_is_there, others), None)


def path_to_write(environment: Mapping[str, str] = os.environ) -> Path:
    """The morpheus.yaml that counts, or would once it is made."""
    if named := environment.get("MORPHEUS_CONFIG"):
        return placed(named, "MORPHEUS_CONFIG", absolute=False)
    return config_path(environment) or _home(environment) / NAME


def placed(named: str, where: str, *, absolute: bool = True) -> Path:
    """The path that *where* names, ``~`` in it replaced.

    Raises:
        InvalidInputError: it cannot be found out: there is no such user, or the current folder is gone.
    """
    try:
        path = Path(named).expanduser()
        return path.absolute() if absolute else path
    except (OSError, RuntimeError) as error:
        reason = "there is no current folder" if isinstance(error, OSError) else str(error).rstrip(".")
        raise InvalidInputError(
            f"{where} names {named}, and nobody can tell where that is ({reason}): name it by its whole path."
        ) from error


def check_here() -> None:
    """Raise InvalidInputError when the current folder is closed to this user: Prefect looks into it."""
    try:
        Path(NAME).exists()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InvalidInputError(
            f"The current folder cannot be looked into ({error.strerror or error}), and Prefect does so: run "
            "the command in another one."
        ) from error


def _home(environment: Mapping[str, str]) -> Path:
    """The folder of this user's settings."""
    folder = environment.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(os.path.expanduser(folder), "morpheus")  # noqa: PTH111  # never raises


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise InvalidInputError(
            f"Nobody can tell whether {path} is there ({error.strerror or error}): open its folder to this "
            "user, or name another file by MORPHEUS_CONFIG."
        ) from error
