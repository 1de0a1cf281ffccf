"""`HardwareSafetyMonitor`: ask, hold a lease, be told, stop everything.

The verdicts come from the threads of lease.py; here they are carried to the event loop, where callbacks run. What a
blocking workload asks (`raise_if_unsafe()`, `paused`, `intensity_cap`) is answered from the lease itself and does not
wait for the loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
import uuid
from dataclasses import dataclass
from typing import Any, Awaitable, Callable, List, Mapping, Optional, Sequence, Union

from .callbacks import Callback, Callbacks
from .constraints import SafetyConstraints
from .errors import SafetyError, ServiceUnreachable, UnsafeError
from .lease import (
    REQUEST_TIMEOUT_SECONDS,
    Grant,
    LeaseKeeper,
    LeaseRequest,
    LeaseView,
    Refusal,
    ask_for_lease,
    ask_preflight,
    release,
)
from .metrics import HardwareMetrics
from .result import Action, SafetyResult, text_of
from .service import Service, not_the_service
from .threads import UnderWay

log = logging.getLogger("safety")

DEFAULT_TTL_SECONDS = 30.0
#: While waiting for leave to start: no longer than one tick of the service, whatever it says is left.
LONGEST_WAIT_SECONDS = 10.0
STOP_ATTEMPTS = 3


@dataclass(frozen=True)
class StopAnswer:
    """What the service says of an emergency stop once it is latched; `report` tells how far the stop has come."""

    trip_id: str
    joined: bool
    report: Mapping[str, Any]


class HardwareSafetyMonitor:
    """Asks whether a workload may start, and watches over it while it runs.

    `constraints` may only tighten the service's limits. `intensity` is the share of full load, over 0 to 1; left out,
    the profile's maximum. `nodes` and `gpus` narrow what is judged; left out, everything is. `ttl_seconds`, 5 to 300,
    is how long the lease lives without a renewal. `url`, `token`, `token_file` and `ca_file` come from the environment
    where they are left out (`VSF_SAFETY_URL`, `VSF_SAFETY_TOKEN`, `VSF_SAFETY_TOKEN_FILE`, `VSF_SAFETY_CA_FILE`).

    A mistake in what is asked for raises `ServiceError`; a service that cannot be asked is an unsafe result.
    """

    def __init__(
        self,
        constraints: Optional[SafetyConstraints] = None,
        *,
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
        self._service = Service(url, token, token_file, ca_file)
        self._constraints = constraints
        self._workload = workload if workload is not None else _workload_name()
        self._intensity = intensity
        self._nodes = nodes
        self._gpus = gpus
        self._ttl_seconds = ttl_seconds
        self._max_duration_seconds = max_duration_seconds
        self._warning = Callbacks("on_warning")
        self._critical = Callbacks("on_critical")
        self._keeper: Optional[LeaseKeeper] = None
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._told: Optional[LeaseView] = None
        self._waiters: "List[asyncio.Future[None]]" = []
        self._last = LeaseView(_not_started(), 0.0, is_over=False)
        #: Called on the loop when the lease is over, before `on_critical`; set by SafeWorkloadContext.
        self.on_over: Optional[Callable[[], None]] = None

    async def pre_flight_check(self) -> SafetyResult:
        """May a workload start now? Judged with readings taken for the question; grants nothing."""
        request = self._request()
        return await UnderWay(lambda: ask_preflight(self._service, request), "preflight")

    def on_warning(self, callback: Callback) -> Callback:
        """Registers for `REDUCE_INTENSITY` and `WAIT_COOLDOWN`; what came before is handed over. A decorator too."""
        return self._register(self._warning, callback)

    def on_critical(self, callback: Callback) -> Callback:
        """Registers for `ABORT`, the loss of the service included. A decorator too."""
        return self._register(self._critical, callback)

    async def start_runtime_monitoring(self) -> SafetyResult:
        """Takes a lease and renews it until `stop_runtime_monitoring()`. Raises `UnsafeError` when it is refused."""
        return await self.take_lease(wait=False)

    async def take_lease(self, *, wait: bool) -> SafetyResult:
        """As `start_runtime_monitoring`; with `wait` it asks again for as long as the service says when to."""
        if self._keeper is not None and not self.view.is_over:
            return self.result
        self._keeper = None
        told: Optional[str] = None
        while True:
            # A new id each time: one that was granted and taken back, because a slow disk did not take it, stays dead.
            asked = await self._ask(self._request())
            if isinstance(asked, Grant):
                return self._begin(asked)
            if not wait or asked.retry_after_seconds is None:
                self._last = LeaseView(asked.result, 0.0, is_over=False)
                raise UnsafeError(asked.result)
            if asked.result.reason != told:
                told = asked.result.reason
                log.info("Waiting for leave to start: %s", told)
            await asyncio.sleep(max(1.0, min(asked.retry_after_seconds, LONGEST_WAIT_SECONDS)))

    def stop_runtime_monitoring(self) -> Awaitable[None]:
        """Gives the lease back. It is under way with the call; await it to know that it has ended."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            self._last = keeper.view()
        self._wake()
        return UnderWay(lambda: None if keeper is None else keeper.release(), "release")

    def emergency_stop(
        self, reason: Optional[str] = None, nodes: Optional[Sequence[str]] = None
    ) -> "UnderWay[StopAnswer]":
        """Stops everything, or the nodes named, and this workload at once. Under way with the call, from any thread;
        await it, or call `.wait()` on it, for the service's answer. It latches until an operator resets it.
        """
        body: dict[str, Any] = {"reason": reason or f"Emergency stop by {self._workload}"}
        if nodes is not None:
            body["nodes"] = list(nodes)
        keeper = self._keeper
        try:
            return UnderWay(lambda: _stop(self._service, body), "emergency-stop")
        finally:
            # Also where no thread is to be had, at the end of the interpreter or of memory.
            if keeper is not None:
                keeper.end(SafetyResult.made_here(Action.ABORT, "emergency-stop", body["reason"]))

    async def collect_metrics(self) -> HardwareMetrics:
        """Every reading that the service has, of the nodes asked about or of all."""
        status = await UnderWay(lambda: _read_status(self._service), "metrics")
        if self._nodes is None:
            return status
        nodes = tuple(node for node in status.nodes if node.node in self._nodes)
        return HardwareMetrics(status.at, status.simulated, nodes)

    @property
    def view(self) -> LeaseView:
        """How the lease stands, at once and from any thread."""
        return self._last if self._keeper is None else self._keeper.view()

    @property
    def result(self) -> SafetyResult:
        """The newest verdict."""
        return self.view.result

    @property
    def safe(self) -> bool:
        """Whether a lease is held and nothing has ended it. True also while paused or reduced."""
        return self._keeper is not None and not self.view.is_over

    @property
    def paused(self) -> bool:
        """Whether the workload must hold still: `WAIT_COOLDOWN`."""
        return self._keeper is not None and self.view.is_paused

    @property
    def intensity_cap(self) -> float:
        """The share of full load that may be used now; 0 without leave to run."""
        return self.view.intensity_cap if self.safe else 0.0

    def raise_if_unsafe(self) -> None:
        """Raises `UnsafeError` unless a lease is held. Sees a verdict at once, also while the event loop is blocked."""
        if not self.safe:
            raise UnsafeError(self.result)

    async def wait_while_paused(self) -> None:
        """Returns when the workload may go on; raises `UnsafeError` when it may not any more."""
        while True:
            self.raise_if_unsafe()
            if not self.paused:
                return
            woken: "asyncio.Future[None]" = asyncio.get_running_loop().create_future()
            self._waiters.append(woken)
            await woken

    async def drain_callbacks(self) -> None:
        """Waits a little for async callbacks that still run."""
        await self._warning.drain()
        await self._critical.drain()

    def _request(self) -> LeaseRequest:
        return LeaseRequest(
            id=str(uuid.uuid4()),
            workload=self._workload,
            ttl_seconds=self._ttl_seconds,
            intensity=self._intensity,
            nodes=self._nodes,
            gpus=self._gpus,
            max_duration_seconds=self._max_duration_seconds,
            constraints=self._constraints,
        )

    async def _ask(self, request: LeaseRequest) -> Union[Grant, Refusal]:
        asking = UnderWay(lambda: ask_for_lease(self._service, request), "start")
        try:
            return await asking
        except asyncio.CancelledError:
            # Nobody will hold what may still be granted.
            asking.then(self._give_back)
            raise

    def _give_back(self, asked: Union[Grant, Refusal]) -> None:
        if isinstance(asked, Grant):
            release(self._service, asked.id, REQUEST_TIMEOUT_SECONDS)

    def _begin(self, grant: Grant) -> SafetyResult:
        self._loop = asyncio.get_running_loop()
        self._told = None
        if grant.view.result.simulated:
            log.warning("The service watches a simulated rig; no hardware is protected")
        keeper = LeaseKeeper(self._service, grant, lambda view: self._on_loop(lambda: self._apply(keeper, view)))
        self._keeper = keeper
        if grant.view.is_over:
            keeper.end(grant.view.result)
        keeper.start()
        return grant.view.result

    def _register(self, callbacks: Callbacks, callback: Callback) -> Callback:
        callbacks.add(callback)
        self._on_loop(callbacks.flush)
        return callback

    def _on_loop(self, do: Callable[[], None]) -> bool:
        """From any thread to the event loop. False when that has ended."""
        if self._loop is None:
            return True
        try:
            self._loop.call_soon_threadsafe(do)
        except RuntimeError:
            # The loop is closed.
            return False
        return True

    def _apply(self, keeper: LeaseKeeper, view: LeaseView) -> None:
        before, self._told = self._told, view
        action = view.result.action
        changed = (
            before is None or before.result.action is not action or before.intensity_cap != view.intensity_cap
        )
        if view.is_over:
            # A lease that has been given back meanwhile must not end the next one's body.
            if self.on_over is not None and self._keeper is keeper:
                self.on_over()
            self._critical.deliver(view.result)
        elif action is Action.PROCEED:
            self._warning.forgive()
        elif changed:
            self._warning.deliver(view.result)
        else:
            self._warning.retry(view.result)
        self._wake()

    def _wake(self) -> None:
        woken, self._waiters = self._waiters, []
        for waiter in woken:
            if not waiter.done():
                waiter.set_result(None)


def _workload_name() -> str:
    program = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] not in ("", "-c", "-m") else "python"
    printable = "".join(letter for letter in program if letter.isascii() and letter.isprintable())
    return f"{printable[:150] or 'python'} ({os.getpid()})"


def _not_started() -> SafetyResult:
    return SafetyResult.made_here(Action.WAIT_COOLDOWN, "not-started", "No lease has been asked for yet")


def _stop(service: Service, body: Mapping[str, Any]) -> StopAnswer:
    for attempt in range(1, STOP_ATTEMPTS + 1):
        try:
            answer = service.ask("POST", "/estop", body, timeout_seconds=REQUEST_TIMEOUT_SECONDS)
            if answer.status in (401, 403) and service.has_token:
                # A wrong token must not keep anybody from stopping: on the service's own machine none is needed.
                answer = service.ask(
                    "POST", "/estop", body, timeout_seconds=REQUEST_TIMEOUT_SECONDS, with_token=False
                )
            if answer.status != 202:
                raise answer.problem()
            report = answer.body.get("report")
            return StopAnswer(
                trip_id=text_of(answer.body, "tripId"),
                joined=answer.body.get("joined") is True,
                report=report if isinstance(report, Mapping) else {},
            )
        except (SafetyError, ValueError) as error:
            log.critical("Emergency stop: attempt %d of %d failed: %s", attempt, STOP_ATTEMPTS, error)
            if attempt == STOP_ATTEMPTS or not isinstance(error, ServiceUnreachable):
                raise
            time.sleep(1)
    raise AssertionError("the last attempt returns or raises")


def _read_status(service: Service) -> HardwareMetrics:
    answer = service.ask("GET", "/status", timeout_seconds=REQUEST_TIMEOUT_SECONDS)
    if answer.status != 200:
        raise answer.problem()
    try:
        return HardwareMetrics.from_json(answer.body)
    except ValueError as error:
        raise not_the_service(answer.status, str(error)) from error
