"""`SafeWorkloadContext`: the lease and the body of an `async with` are one.

The body is cancelled when the lease is over: on `ABORT`, on a revoke, on silence. What leaves the block then is
`UnsafeError`, as `asyncio.timeout()` makes a `TimeoutError` of its own cancellation; somebody else's cancellation stays
what it was. Cancelling reaches a body only where it awaits: blocking code asks `raise_if_unsafe()`, and code that asks
nothing can only be stopped from outside, which is what `vsf-safety run` and a lease with a process group are for.
"""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Optional, Sequence, Type

from .callbacks import Callback
from .constraints import SafetyConstraints
from .errors import UnsafeError
from .monitor import DEFAULT_TTL_SECONDS, HardwareSafetyMonitor
from .result import SafetyResult

log = logging.getLogger("safety")

#: A body that has been cancelled and is still there after this long is cancelled again, every second.
PATIENCE_SECONDS = 5.0
INSIST_SECONDS = 1.0


class SafeWorkloadContext:
    """Runs its body under a lease.

    Refused at entry, the body runs all the same with `ctx.safe` false and `ctx.result` saying why, so that
    `if ctx.safe:` decides; `required=True` raises `UnsafeError` instead. `wait=True` waits for as long as the service
    says when to ask again (a cooldown, a missing reading), never for a trip to be reset. `on_warning` and
    `on_critical`, plain or async, get the `SafetyResult`, once per change, on the event loop. Everything else is as in
    `HardwareSafetyMonitor`.
    """

    def __init__(
        self,
        on_warning: Optional[Callback] = None,
        on_critical: Optional[Callback] = None,
        *,
        constraints: Optional[SafetyConstraints] = None,
        wait: bool = False,
        required: bool = False,
        workload: Optional[str] = None,
        intensity: Optional[float] = None,
        nodes: Optional[Sequence[str]] = None,
        gpus: Optional[Sequence[str]] = None,
        ttl_seconds: float = DEFAULT_TTL_SECONDS,
        max_duration_seconds: Optional[float] = None,
        url: Optional[str] = None,
        token: Optional[str] = None,
        token_file: Optional[str] = None,
        ca_file: Optional[str] = None,
    ) -> None:
        self.monitor = HardwareSafetyMonitor(
            constraints,
            workload=workload,
            intensity=intensity,
            nodes=nodes,
            gpus=gpus,
            ttl_seconds=ttl_seconds,
            max_duration_seconds=max_duration_seconds,
            url=url,
            token=token,
            token_file=token_file,
            ca_file=ca_file,
        )
        self.monitor.on_over = self._cancel_body
        if on_warning is not None:
            self.monitor.on_warning(on_warning)
        if on_critical is not None:
            self.monitor.on_critical(on_critical)
        self._wait = wait
        self._required = required
        self._body: "Optional[asyncio.Task[object]]" = None
        self._cancellations = 0
        self._again: Optional[asyncio.TimerHandle] = None

    @property
    def safe(self) -> bool:
        """Whether the body has leave to run. True also while paused or reduced; false from a refusal or an abort on."""
        return self.monitor.safe

    @property
    def result(self) -> SafetyResult:
        """The newest verdict: the refusal, the last renewal's, or the abort."""
        return self.monitor.result

    @property
    def paused(self) -> bool:
        """Whether the body must hold still now."""
        return self.monitor.paused

    @property
    def intensity_cap(self) -> float:
        """The share of full load that may be used now, 0 to 1; 0 without leave to run."""
        return self.monitor.intensity_cap

    def raise_if_unsafe(self) -> None:
        """For blocking code, from any thread: raises `UnsafeError` once the body must end."""
        self.monitor.raise_if_unsafe()

    async def wait_while_paused(self) -> None:
        """Returns at once unless paused, else when the body may go on; raises `UnsafeError` once it must end."""
        await self.monitor.wait_while_paused()

    def on_warning(self, callback: Callback) -> Callback:
        """As the argument of that name; what came before is handed over."""
        return self.monitor.on_warning(callback)

    def on_critical(self, callback: Callback) -> Callback:
        """As the argument of that name."""
        return self.monitor.on_critical(callback)

    async def __aenter__(self) -> SafeWorkloadContext:
        if self._body is not None:
            raise RuntimeError("This SafeWorkloadContext is entered already")
        self._cancellations = 0
        try:
            await self.monitor.take_lease(wait=self._wait)
        except UnsafeError as refused:
            if self._required:
                raise
            log.warning("Refused to start: %s", refused.result.reason)
        # Only now: nothing is told before the loop is free again, and until here there is no body to cancel.
        self._body = asyncio.current_task()
        return self

    async def __aexit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        body, self._body = self._body, None
        if self._again is not None:
            self._again.cancel()
            self._again = None
        is_cancelled = exc_type is not None and issubclass(exc_type, asyncio.CancelledError)
        is_ours = False
        if self._cancellations > 0 and body is not None:
            # None of ours is still on its way: the loop made it, so the body's next step was to receive it.
            is_ours = _take_back(body, self._cancellations)
        result = self.monitor.result
        await self.monitor.stop_runtime_monitoring()
        await self.monitor.drain_callbacks()
        if is_cancelled and is_ours:
            raise UnsafeError(result) from exc

    def _cancel_body(self) -> None:
        """On the loop, when the lease is over."""
        if self._body is None:
            return
        delay = INSIST_SECONDS
        if self._cancellations == 0:
            delay = PATIENCE_SECONDS
        else:
            log.critical("The body was cancelled %d times and still runs", self._cancellations)
        self._cancellations += 1
        self._body.cancel()
        self._again = asyncio.get_running_loop().call_later(delay, self._cancel_body)


def _take_back(task: "asyncio.Task[object]", cancellations: int) -> bool:
    """Undoes the count of our cancellations, where Python (3.11) keeps one; False if somebody else cancelled too."""
    uncancel = getattr(task, "uncancel", None)
    if uncancel is None:
        return True
    left = 0
    for _ in range(cancellations):
        left = uncancel()
    return left == 0
