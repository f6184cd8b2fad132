"""Waiting has a bound, and says what was seen last."""

import contextvars
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from morpheus.errors import AbandonedError, NotReadyError, StoreBusyError
from morpheus.wait import check_wanted, end_waits, let_wait, locked, wait_until


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


def test_a_lock_that_another_holds_is_awaited_aloud_and_with_a_bound(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "morpheus.wait")

    with (
        locked(tmp_path / "lock", timeout=5),
        pytest.raises(StoreBusyError, match=r"held the lock .* for 1 s"),
        locked(tmp_path / "lock", timeout=1.2),
    ):
        pass

    assert f"waiting for the lock {tmp_path / 'lock'}: another program holds it (1 of 1 s)" in caplog.text


def test_a_lock_is_free_after_the_block_even_when_that_failed(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "lock", timeout=0):
        raise KeyError

    with locked(tmp_path / "lock", timeout=0):
        pass


def test_a_lock_that_nobody_holds_is_taken_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "morpheus.wait")

    with locked(tmp_path / "lock", timeout=0):
        assert caplog.text == ""


def test_a_wait_ends_when_its_run_is_taken_back_and_who_cleans_up_waits_on() -> None:
    let_wait()
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        wait_until("nothing", lambda: 0, bool, str, timeout=60, interval=60)

    with ThreadPoolExecutor() as pool:
        ended = pool.submit(contextvars.copy_context().run, wait)
        assert begun.wait(10)
        started = time.monotonic()
        end_waits()
        with pytest.raises(AbandonedError, match="Nobody waits for nothing any more"):
            ended.result(timeout=30)
    assert time.monotonic() - started < 10
    with pytest.raises(AbandonedError):
        check_wanted()

    let_wait()

    check_wanted()
    assert wait_until("it", lambda: True, bool, str, timeout=0) is True


def test_what_does_not_change_is_said_less_and_less_often(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "morpheus.wait")
    clock = iter(range(10**6))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) / 2)

    with pytest.raises(NotReadyError):
        wait_until("it", lambda: 0, bool, lambda _: "nothing", timeout=600, interval=0)

    assert 15 <= len(caplog.records) <= 30
