"""The settings as people look at them and change them: every key, its value, and who gave it."""

import difflib
import getpass
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr

from morpheus import folders
from morpheus import settings as config
from morpheus.errors import InvalidInputError, MachineError
from morpheus.files import make_folder, replace_file
from morpheus.settings import Settings

NOTHING = {"", "null", "~"}
ASKED_FOR = "-"  # the value is typed or read, so that it stands in no list of processes
TEXTS = {str, SecretStr, Path, Literal}
LONG_ENOUGH, SHOWN = 16, 4  # characters of a secret


@dataclass(frozen=True, slots=True)
class Entry:
    """A setting. ``value`` is as JSON knows it; ``source`` is file, environment, init or default."""

    key: str
    value: Any
    source: str
    secret: bool = False

    def shown(self) -> Any:
        """The value, masked where it is secret."""
        return masked(self.value) if self.secret and self.value else self.value


@dataclass(frozen=True, slots=True)
class Places:
    """The file of the settings, whether it is there, whether MORPHEUS_CONFIG names it, and the folders."""

    config: Path
    exists: bool
    named: bool
    data: Path
    cache: Path


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change made of the settings in *path*."""

    path: Path
    entries: tuple[Entry, ...]


def masked(secret: str) -> str:
    """Enough of a long *secret* to know it again."""
    return f"{secret[:SHOWN]}...{secret[-SHOWN:]}" if len(secret) >= LONG_ENOUGH else "***"


def places(environment: Mapping[str, str] = os.environ) -> Places:
    path = folders.path_to_write(environment).absolute()
    named = bool(environment.get("MORPHEUS_CONFIG"))
    return Places(path, path.exists(), named, folders.data_dir(environment), folders.cache_dir(environment))


def entries(environment: Mapping[str, str] = os.environ) -> list[Entry]:
    """Every setting there is.

    Raises:
        InvalidInputError: as :func:`morpheus.settings.load`.
    """
    return _entries(config.load_file(environment), environment)


def entry(key: str, environment: Mapping[str, str] = os.environ) -> Entry:
    """The setting *key*, such as ``growth.max_nodes``.

    Raises:
        InvalidInputError: there is none, or as :func:`morpheus.settings.load`.
    """
    _path(key)
    return next(each for each in entries(environment) if each.key == key)


def change(words: Sequence[str], environment: Mapping[str, str] = os.environ) -> Changed:
    """Write keys and values, one after the other in *words*, into the file, all of them or none.

    Raises:
        InvalidInputError: the settings would be wrong; nothing was changed.
        MachineError: the file cannot be written.
    """
    from morpheus.cli.editing import edited  # noqa: PLC0415  # imports ruamel

    if len(words) % 2:
        raise InvalidInputError(f"{words[-1]} has no value: give keys and values in turn.")
    given = dict(zip(words[::2], words[1::2], strict=True))
    changes = {_path(key): _typed(key, _asked_for(key, text)) for key, text in given.items()}
    path = places(environment).config
    old = config.read_text(path) if path.exists() else ""
    try:
        config.mapping(old, str(path))
        new = edited(old, changes)
        stand_ins = {name: f"${{{name}}}" for name in config.variables(new)}  # the value stays as written
        settings = config.understood(new, stand_ins | dict(environment), str(path))
    except InvalidInputError as error:
        raise InvalidInputError(f"Nothing was changed: {error}") from error
    make_folder(path.parent)
    try:
        replace_file(path.resolve(), new.encode())
    except OSError as error:
        raise MachineError(f"Cannot write {path}: {error.strerror or error}.") from error
    return Changed(path, tuple(each for each in _entries(settings, environment) if each.key in given))


def _entries(said: Settings, environment: Mapping[str, str]) -> list[Entry]:
    """Every setting, when the file *said* that."""
    valid = config.with_secrets(said, environment)
    raw = valid.model_dump(mode="json")
    found = []
    for path in _paths(Settings):
        value, json = _at(valid, path), _json_at(raw, path)
        secret = _is_secret(path)
        if isinstance(value, SecretStr):
            json = value.get_secret_value()
        told = "file" if _is_said(said, path) else "default"
        source = told if value == _at(said, path) else _given(path, environment)
        found.append(Entry(".".join(path), json, source, secret))
    return found


def _given(path: Sequence[str], environment: Mapping[str, str]) -> str:
    """Who gave a value that does not stand in the file."""
    from_init = path == ("registry", "password") and "STORAGEBOX_PASSWORD" not in environment
    return "init" if from_init else "environment"


def _paths(part: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in part.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _paths(kind, (*above, name))
        else:
            yield (*above, name)


def _path(key: str) -> tuple[str, ...]:
    """The path of the setting *key*.

    Raises:
        InvalidInputError: there is no such setting.
    """
    paths = {".".join(path): path for path in _paths(Settings)}
    if key in paths:
        return paths[key]
    if below := [each for each in paths if each.startswith(f"{key}.")]:
        raise InvalidInputError(f"{key} is a part of the settings: its keys are {', '.join(below)}.")
    near = difflib.get_close_matches(key, paths, n=1)
    known = f"did you mean {near[0]}?" if near else "morpheus config list shows those there are."
    raise InvalidInputError(f"{key} is no setting: {known}")


def _at(settings: Settings, path: Sequence[str]) -> Any:
    value: Any = settings
    for name in path:
        value = getattr(value, name)
    return value


def _json_at(raw: Any, path: Sequence[str]) -> Any:
    for name in path:
        raw = raw[name]
    return raw


def _is_said(said: BaseModel, path: Sequence[str]) -> bool:
    """Whether the file says something about *path*."""
    part: Any = said
    for name in path:
        if name not in part.model_fields_set:
            return False
        part = getattr(part, name)
    return True


def _annotation(path: Sequence[str]) -> Any:
    part: Any = Settings
    for name in path:
        part = part.model_fields[name].annotation
    return part


def _kinds(annotation: Any) -> set[Any]:
    """The kinds of values that *annotation* allows, such as ``{str, tuple}``."""
    origin = get_origin(annotation)
    if origin in {Union, UnionType}:
        return set().union(*(_kinds(each) for each in get_args(annotation)))
    return {origin or annotation}


def _is_secret(path: Sequence[str]) -> bool:
    return SecretStr in _kinds(_annotation(path))


def _typed(key: str, text: str) -> Any:
    """*text* as what the setting holds; what it cannot be is found out later."""
    import yaml  # noqa: PLC0415  # only for this

    if text in NOTHING:
        return None
    kinds = _kinds(_annotation(_path(key)))
    if tuple in kinds and (str not in kinds or text.startswith("[") or "," in text):
        several = text.removeprefix("[").removesuffix("]").split(",")
        return [each.strip(" '\"") for each in several if each.strip()]
    if kinds & TEXTS:
        return text
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text
    return value if isinstance(value, bool | int | float) else text


def _asked_for(key: str, text: str) -> str:
    """*text*, or what is typed or piped in its place.

    Raises:
        InvalidInputError: that was nothing: a program that was to print a password may have failed.
    """
    if text != ASKED_FOR:
        return text
    given = getpass.getpass(f"{key}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if not given:
        raise InvalidInputError(f"Nothing was given for {key}, so nothing was changed; null removes a value.")
    return given
