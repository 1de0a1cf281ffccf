"""The user's `on_warning` and `on_critical`: called on the event loop, plain or async, and never in vain.

A warning may come before the workload object exists. So what nobody is registered for is kept until somebody is; and
a callback that fails, because it names a generator that is not there yet, gets the standing warning again with the next
answer. A callback is called once per change, not once per renewal.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from typing import Awaitable, Callable, Deque, List, Set, Union

from .result import SafetyResult

log = logging.getLogger("safety")

Callback = Callable[[SafetyResult], Union[None, Awaitable[None], object]]

#: More changes than anybody would want to be told of afterwards; the oldest go first.
MOST_KEPT = 16
#: How long the end of a context waits for async callbacks.
DRAIN_SECONDS = 5.0


class Callbacks:
    """The callbacks of one kind. All but `add` on the thread of the event loop."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._callbacks: List[Callback] = []
        self._kept: Deque[SafetyResult] = deque(maxlen=MOST_KEPT)
        self._failed: List[Callback] = []
        self._known_failing: Set[int] = set()
        self._tasks: "Set[asyncio.Task[None]]" = set()

    def add(self, callback: Callback) -> None:
        """From any thread; `flush()` then hands over what was kept."""
        self._callbacks.append(callback)

    def deliver(self, result: SafetyResult) -> None:
        """Something has changed."""
        self._kept.append(result)
        self._failed.clear()
        self.flush()

    def flush(self) -> None:
        """Hands over what was kept, if there is anybody to take it."""
        while self._callbacks and self._kept:
            result = self._kept.popleft()
            for callback in list(self._callbacks):
                self._call(callback, result)

    def retry(self, result: SafetyResult) -> None:
        """Nothing has changed, and `result` stands: those that failed get it again."""
        failed, self._failed = self._failed, []
        for callback in failed:
            self._call(callback, result)

    def forgive(self) -> None:
        """What stood is over: those that failed have nothing left to do."""
        self._failed.clear()

    async def drain(self) -> None:
        """Waits for async callbacks, up to `DRAIN_SECONDS`."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=DRAIN_SECONDS)

    def _call(self, callback: Callback, result: SafetyResult) -> None:
        try:
            outcome = callback(result)
        except Exception as error:
            self._fail(callback, error)
            return
        if inspect.isawaitable(outcome):
            task = asyncio.get_running_loop().create_task(self._finish(callback, outcome))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _finish(self, callback: Callback, outcome: Awaitable[object]) -> None:
        try:
            await outcome
        except Exception as error:
            self._fail(callback, error)

    def _fail(self, callback: Callback, error: Exception) -> None:
        self._failed.append(callback)
        level = logging.DEBUG if id(callback) in self._known_failing else logging.ERROR
        self._known_failing.add(id(callback))
        what = "The %s callback %r failed; it is called again while its cause stands"
        log.log(level, what, self._kind, callback, exc_info=error)
