"""Blocking work beside the event loop: begun by the call itself, awaited or not.

A forgotten `await` must not turn an emergency stop into nothing, so what is returned is no coroutine but the deed under
way. It has a thread of its own, and not the loop's executor, which a workload may have filled with blocking work.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Awaitable, Callable, Generator, Generic, Optional, TypeVar

T = TypeVar("T")


class UnderWay(Awaitable[T], Generic[T]):
    """Await it for the outcome, or call `wait()` where there is no event loop."""

    def __init__(self, work: Callable[[], T], name: str) -> None:
        self._future: Future[T] = Future()

        def run() -> None:
            try:
                outcome = work()
            except BaseException as error:
                self._future.set_exception(error)
            else:
                self._future.set_result(outcome)

        # No daemon: a process that ends right after still carries it out. Every work given here has a deadline.
        threading.Thread(target=run, name=f"vsf-safety-{name}").start()

    def __await__(self) -> Generator[object, None, T]:
        # Shielded: who stops waiting does not stop the deed.
        return asyncio.shield(asyncio.wrap_future(self._future)).__await__()

    def wait(self, timeout_seconds: Optional[float] = None) -> T:
        """Blocks for the outcome; never call it on the thread of an event loop."""
        return self._future.result(timeout_seconds)

    def then(self, do: Callable[[T], None]) -> None:
        """Calls `do` with the outcome on that thread, unless the work fails."""
        self._future.add_done_callback(lambda future: None if future.exception() else do(future.result()))
