"""Waiting has a bound, and says what was seen last."""

import time

import pytest

from morpheus.errors import NotReadyError
from morpheus.wait import wait_until


def test_the_first_answer_that_will_do_is_returned() -> None:
    answers = iter([1, 2, 3, 4])

    found = wait_until("three", lambda: next(answers), lambda n: n == 3, str, timeout=10, interval=0)

    assert found == 3
    assert next(answers) == 4


def test_a_wait_that_ends_in_vain_says_for_what_and_what_was_seen_last() -> None:
    with pytest.raises(NotReadyError, match=r"Waited 0 s for a leader; last seen: 2 of 3\."):
        wait_until(
            "a leader", lambda: 2, lambda _: False, lambda n: f"{n} of 3", timeout=0.02, interval=0.001
        )


def test_an_answer_is_asked_for_even_without_time() -> None:
    assert wait_until("it", lambda: True, bool, str, timeout=0) is True


def test_a_long_interval_does_not_lengthen_the_wait() -> None:
    started = time.monotonic()

    with pytest.raises(NotReadyError):
        wait_until("nothing", lambda: 0, bool, str, timeout=0.05, interval=60)

    assert time.monotonic() - started < 10


def test_the_last_question_is_asked_at_the_bound() -> None:
    started = time.monotonic()

    assert wait_until(
        "the bound", lambda: time.monotonic() - started, lambda s: s >= 0.05, str, timeout=0.05, interval=60
    )
