"""Names, labels and label selectors, with the API's grammar."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.simulator.errors import invalid

Labels = Mapping[str, str]

_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"(?:(?P<prefix>[A-Za-z0-9](?:[A-Za-z0-9._-]{{0,251}}[A-Za-z0-9])?)/)?{_PART}")
_VALUE = re.compile(rf"(?:{_PART})?")
_RESERVED = "hetzner.cloud"
_CLAUSES = (  # a term of a selector, and what it asks of the labels
    (re.compile(r"(\S+?)\s+in\s*\(([^()]*)\)"), lambda labels, key, values: labels.get(key) in _set(values)),
    (
        re.compile(r"(\S+?)\s+notin\s*\(([^()]*)\)"),
        lambda labels, key, values: labels.get(key) not in _set(values),
    ),
    (re.compile(r"([^\s!=]+)\s*!=\s*([^\s!=]*)"), lambda labels, key, value: labels.get(key) != value),
    (re.compile(r"([^\s!=]+)\s*==?\s*([^\s!=]*)"), lambda labels, key, value: labels.get(key) == value),
    (re.compile(r"!\s*([^\s!=]+)()"), lambda labels, key, _: key not in labels),
    (re.compile(r"([^\s!=]+)()"), lambda labels, key, _: key in labels),
)


def check_hostname(name: str) -> None:
    """Refuse a server name that is no RFC 1123 hostname of lower case letters."""
    if not all(map(_HOSTNAME.fullmatch, name.split("."))):
        raise invalid("Name is not a valid hostname.", "name")


def check_labels(labels: Any) -> None:
    if labels is None:
        return
    if not isinstance(labels, dict) or not all(isinstance(each, str) for each in labels.values()):
        raise invalid("labels must be an object of strings", "labels")
    for key, value in labels.items():
        found = _KEY.fullmatch(key)
        if found is None or not _VALUE.fullmatch(value):
            raise invalid(f"label {key!r} with value {value!r} is not allowed", "labels")
        if found["prefix"] == _RESERVED:
            raise invalid(f"the prefix of label {key!r} is reserved", "labels")


def selects(selector: str) -> Callable[[Labels], bool]:
    """Return what *selector* asks of labels: terms joined by commas, each of which must hold.

    Raises:
        ApiError: 422, it is none.
    """
    terms = [_term(each.strip()) for each in re.split(r",(?![^()]*\))", selector)]
    return lambda labels: all(term(labels) for term in terms)


def _term(text: str) -> Callable[[Labels], bool]:
    for pattern, holds in _CLAUSES:
        if found := pattern.fullmatch(text):
            key, value = found[1], found[2]
            values = _set(value) if "(" in text else {value}
            if not _KEY.fullmatch(key) or not all(map(_VALUE.fullmatch, values)):
                break
            return lambda labels: bool(holds(labels, key, value))
    raise invalid(f"invalid label selector {text!r}", "label_selector")


def _set(values: str) -> set[str]:
    return {each.strip() for each in values.split(",")}
