"""A thread with an event loop: any thread speaks SSH through it."""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from morpheus.errors import AbandonedError
from morpheus.wait import check_wanted

Answer = TypeVar("Answer")

ASKED_AGAIN = 0.1  # seconds between two looks at whether the answer is still wanted
_END = 5.0  # seconds for what still runs to end


class Background:
    """An event loop in a thread that begins with the first call and ends with :meth:`close`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # the garbage collector may close in the middle
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.at_end: set[Callable[[], object]] = set()  # called in the thread, before it ends

    def call(self, work: Coroutine[Any, Any, Answer], *, timeout: float | None) -> Answer:
        """Run *work* there and return what it returns; it is cancelled when nobody wants it any more.

        Raises:
            TimeoutError: it took longer than *timeout* seconds.
            AbandonedError: the run of the calling thread is being taken back.
        """
        try:
            check_wanted()
        except AbandonedError:
            work.close()
            raise
        with self._lock:  # so that nothing comes in behind the end
            future = asyncio.run_coroutine_threadsafe(_bounded(work, timeout), self._started())
        try:
            while not concurrent.futures.wait([future], timeout=ASKED_AGAIN).done:
                check_wanted()
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise AbandonedError("The connections to the machines were closed meanwhile.") from error
        finally:
            future.cancel()

    def tell(self, act: Callable[[], object]) -> None:
        """Do a short *act* there, wanted or not; nothing when the thread has ended, for it did that then."""
        done = threading.Event()

        def do() -> None:
            act()
            done.set()

        with self._lock, contextlib.suppress(RuntimeError):
            if self._loop is None:
                return
            self._loop.call_soon_threadsafe(do)
        done.wait(timeout=1.0)

    def close(self) -> None:
        """End everything under way, and the thread; a later call begins anew."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop and thread:
            _stop(loop, thread)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            work = (self._loop, self.at_end)
            self._thread = threading.Thread(target=_run, args=work, name="morpheus-ssh", daemon=True)
            self._thread.start()
        return self._loop


async def _bounded(work: Coroutine[Any, Any, Answer], timeout: float | None) -> Answer:  # noqa: ASYNC109  # passed on
    return await asyncio.wait_for(work, timeout)


def _run(loop: asyncio.AbstractEventLoop, at_end: set[Callable[[], object]]) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    for end in tuple(at_end):
        end()
    at_end.clear()
    for task in (left := asyncio.all_tasks(loop)):
        task.cancel()
    with contextlib.suppress(TimeoutError):
        ended = asyncio.gather(*left, return_exceptions=True)
        loop.run_until_complete(asyncio.wait_for(ended, _END))
    loop.run_until_complete(asyncio.sleep(0.01))  # transports that were aborted close their sockets
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    with contextlib.suppress(RuntimeError):  # it has ended already
        loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():
        thread.join(timeout=2 * _END)
