"""Changes of a YAML text: what was not named stays as it is, to the letter."""

from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
import yaml

from morpheus.cli.editing import edited
from morpheus.errors import InvalidInputError

EXAMPLE = (Path(__file__).parents[2] / "morpheus.example.yaml").read_text()
MAX, URL = ("growth", "max_nodes"), ("registry", "url")


def test_nothing_to_change_changes_nothing() -> None:
    assert edited(EXAMPLE, {}) == EXAMPLE


def test_one_line_changes_and_its_comment_stays() -> None:
    before, after = EXAMPLE.splitlines(), edited(EXAMPLE, {("dns", "ttl"): 60}).splitlines()

    (line,) = [new for old, new in zip(before, after, strict=True) if old != new]
    assert line == "  ttl: 60   # seconds"


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("", "registry:\n  url: x\n"),
        ("# mine\n", "# mine\nregistry:\n  url: x\n"),
        ("# mine", "# mine\nregistry:\n  url: x\n"),
        ("registry:\n", "registry:\n  url: x\n"),
        ("registry: {type: local}\n", "registry: {type: local, url: x}\n"),
        (
            "registry:\n    type: s3  # s\n    # own\n\n# Next\nmachine:\n    provider: local\n",
            "registry:\n    type: s3  # s\n    # own\n    url: x\n\n# Next\nmachine:\n    provider: local\n",
        ),
        (
            "registry:\n  type: s3\n# Next\nmachine:\n  hetzner:\n    location:\n    - fsn1\n",
            "registry:\n  type: s3\n  url: x\n# Next\nmachine:\n  hetzner:\n    location:\n    - fsn1\n",
        ),
    ],
)
def test_a_new_key_comes_last_in_its_part(text: str, after: str) -> None:
    assert edited(text, {URL: "x"}) == after


def test_a_new_key_stands_before_comments_of_the_next_part_however_deep() -> None:
    text = "machine:\n  hetzner:\n    location:\n      - fsn1\n    # own\n\n# Next\ndns:\n  ttl: 60\n"

    after = edited(text, {("machine", "hetzner", "image"): "x", ("machine", "provider"): "local"})

    assert after == text.replace("    # own\n", "    # own\n    image: x\n  provider: local\n")


@pytest.mark.parametrize(
    "text", ["yes", "1:30", "2.10", "0x1f", "~", "null", "a: b", "a #b", "'q'", "*x", " "]
)
def test_a_text_stays_a_text_for_readers_of_yaml_1_1(text: str) -> None:
    assert yaml.safe_load(edited("", {URL: text})) == {"registry": {"url": text}}


printable = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]))
values = st.none() | st.booleans() | st.integers() | printable | st.lists(printable)


@hypothesis.settings(max_examples=40)
@hypothesis.given(url=values, most=values)
def test_whatever_is_written_is_read_again(url: Any, most: Any) -> None:
    read = yaml.safe_load(edited(EXAMPLE, {URL: url, MAX: most}))

    expected = yaml.safe_load(EXAMPLE)
    expected["registry"]["url"], expected["growth"]["max_nodes"] = url, most
    assert read == expected


@pytest.mark.parametrize(
    ("text", "sentence"), [("growth: 5\n", "growth holds no keys"), ("a: 1\na: 2\n", "look at line 2")]
)
def test_what_cannot_be_changed_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        edited(text, {MAX: 5})
