"""What all tasks have in common: side effects are never cached, and only what may pass is retried."""

import logging
from collections.abc import Sequence
from typing import Any, TypeVar

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture, wait
from prefect.task_runners import ThreadPoolTaskRunner

from morpheus.errors import MorpheusError, ReloadError, TransientError
from morpheus.wait import end_waits, let_wait

log = logging.getLogger("morpheus.tasks")

Result = TypeVar("Result")


def transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether the same call may succeed in a moment."""
    del task
    try:
        state.result()
    except TransientError as error:
        log.info("%s is tried again: %s", run.name, error)
        return True
    except Exception:  # noqa: BLE001  # every other failure is final
        return False
    return False


RETRYING: dict[str, Any] = {
    "retries": 4,
    "retry_delay_seconds": [0.5, 2, 5, 15],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": transient,
    "cache_policy": NO_CACHE,  # a call with effects is not a cache key
    "persist_result": False,
}


def all_or_raise(futures: Sequence[PrefectFuture[Result]]) -> list[Result]:
    """Wait for every future before raising, so that nothing is still under way when somebody cleans up.

    Of several errors the one that a person has to act on is raised.
    """
    wait(list(futures))
    errors = [
        error
        for future in futures
        if not future.state.is_completed()
        and isinstance(error := future.state.result(raise_on_failure=False), BaseException)
    ]
    final = [error for error in errors if not isinstance(error, TransientError | ReloadError)]
    for error in (*final, *errors):
        raise error
    return [future.result() for future in futures]


def faults(futures: Sequence[PrefectFuture[Any]]) -> list[MorpheusError | None]:
    """Wait for every future; for each one the error that it ended with, None where it came to a good end.

    What is none of our errors is raised.
    """
    wait(list(futures))
    ends: list[MorpheusError | None] = []
    for future in futures:
        end = None if future.state.is_completed() else future.state.result(raise_on_failure=False)
        if isinstance(end, BaseException) and not isinstance(end, MorpheusError):
            raise end
        ends.append(end)
    return ends


def settle() -> None:
    """Wait for the tasks under way and let no other begin: a signal may come while some are submitted.

    What they wait for is not awaited any more (see :func:`morpheus.wait.let_wait`).
    """
    end_waits()
    context = FlowRunContext.get()
    if context and isinstance(context.task_runner, ThreadPoolTaskRunner):
        context.task_runner.cancel_all()
    let_wait()  # who cleans up waits, too
