"""A change of a YAML text that keeps its comments and the order of its keys."""

import io
from collections.abc import Mapping
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark, MarkedYAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString
from ruamel.yaml.tokens import CommentToken
from ruamel.yaml.util import load_yaml_guess_indent

from morpheus.errors import InvalidInputError

AFTER = 2  # where ruamel keeps the comment that follows a value: at its line's end, and below it
WIDEST = 2**16  # lines are not broken


class _Representer(RoundTripRepresenter):
    """Writes null as null, not as nothing."""


def edited(text: str, changes: Mapping[tuple[str, ...], Any]) -> str:
    """*text*, a mapping, with each value of *changes* at its path of keys; parts that lack are made.

    Raises:
        InvalidInputError: it is no YAML that can be written again, or a part in it is none.
    """
    writer = YAML()
    writer.Representer = _Representer
    writer.preserve_quotes = True
    writer.width = WIDEST
    try:
        document, indent, dash = load_yaml_guess_indent(text, yaml=writer)
    except MarkedYAMLError as error:  # its text quotes the line, which may hold a password
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidInputError(f"the file cannot be written again; look at line {line}.") from error
    head = ""
    if document is None:  # nothing but comments
        document, head = CommentedMap(), text if text.endswith("\n") or not text else f"{text}\n"
    writer.indent(mapping=indent if indent and dash is None else 2, sequence=indent or 2, offset=dash or 0)
    for path, value in changes.items():
        part = document
        for depth, key in enumerate(path[:-1], start=1):
            if part.get(key) is None:
                _put(part, key, CommentedMap(), 2 * (depth - 1))
            part = part[key]
            if not isinstance(part, CommentedMap):
                raise InvalidInputError(f"{'.'.join(path[:depth])} holds no keys.")
        _put(part, path[-1], _plain(value), 2 * (len(path) - 1))
    new = io.StringIO()
    writer.dump(document, new)
    return head + new.getvalue()


def _put(part: CommentedMap, key: str, value: Any, column: int) -> None:
    """Set *key*; what is new comes last in its part, before comments that belong to the next one."""
    if key in part:
        part[key] = value
        return
    before = _last_comment(part)
    part[key] = value
    if before is None:
        return
    kept, rest = _split(before.value, column)
    if rest.strip():
        before.value = kept
        part.ca.items[key] = [None, None, CommentToken(f"\n{rest}", CommentMark(0), None), None]


def _last_comment(part: CommentedMap) -> CommentToken | None:
    """What follows the last value in *part*, however deep."""
    value: Any = part
    token = None
    while isinstance(value, CommentedMap | CommentedSeq) and value:
        last: Any = len(value) - 1 if isinstance(value, CommentedSeq) else list(value)[-1]
        place = 0 if isinstance(value, CommentedSeq) else AFTER
        token = (value.ca.items.get(last) or [None] * 4)[place]
        value = value[last]
    return token


def _split(comment: str, column: int) -> tuple[str, str]:
    """The lines of *comment* up to the last that is indented by *column*, and those after it."""
    lines = comment.splitlines(keepends=True)
    own = [
        number
        for number, line in enumerate(lines)
        if number == 0 or (line.strip() and len(line) - len(line.lstrip()) >= column)
    ]
    end = own[-1] + 1 if own else 0
    return "".join(lines[:end]), "".join(lines[end:])


def _plain(value: Any) -> Any:
    """*value* so that who reads YAML 1.1, in which yes is true and 1:30 a number, reads the same."""
    if isinstance(value, str):
        return value if _reads_as_itself(value, "{}") else DoubleQuotedScalarString(value)
    if isinstance(value, list):
        several = CommentedSeq(
            each if _reads_as_itself(each, "[{}]") else DoubleQuotedScalarString(each) for each in value
        )
        several.fa.set_flow_style()
        return several
    return value


def _reads_as_itself(text: str, place: str) -> bool:
    try:
        read = yaml.safe_load(place.format(text))
    except (yaml.YAMLError, ValueError):
        return False
    return bool(read in (text, [text]))


def _null(representer: RoundTripRepresenter, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _null)
