"""What every task promises: never an answer from a cache, and what may pass is tried again for a while."""

import importlib
import pkgutil
from typing import Any

import pytest
from prefect import Task
from prefect.cache_policies import NO_CACHE

import tasks
from tasks._retry import transient

MODULES = [importlib.import_module(f"tasks.{each.name}") for each in pkgutil.iter_modules(tasks.__path__)]
TASKS: dict[str, Task[..., Any]] = {
    name: value for module in MODULES for name, value in vars(module).items() if isinstance(value, Task)
}


def test_every_task_is_looked_at() -> None:
    assert {"ensure_server", "delete_server", "record", "start_nats", "verify_cluster"} <= TASKS.keys()


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_is_never_answered_from_a_cache(task: Task[..., Any]) -> None:
    """Its effects would be missing, and nobody would know."""
    assert task.cache_policy == NO_CACHE
    assert task.persist_result is False


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_is_tried_again_a_few_times_not_all_at_once_and_only_for_what_passes(
    task: Task[..., Any],
) -> None:
    delays = task.retry_delay_seconds

    assert isinstance(delays, list)
    assert 1 <= task.retries == len(delays) <= 5
    assert delays == sorted(delays)
    assert sum(delays) <= 60
    assert task.retry_jitter_factor
    assert task.retry_condition_fn is transient
