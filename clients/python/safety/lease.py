"""A lease, kept alive from threads of its own, and the verdict over it.

Two daemon threads: one renews, the other watches the clock. They depend neither on the event loop nor on each other, so
a blocked loop still renews, and a renewal that hangs (in a name look-up, say, which has no deadline in Python) still
lapses. Time counts on the monotonic clock from the moment at which the last successful renewal was *sent*: the service
counts from when it arrived, so this side is over first, never last.

What is no renewal: no answer, a 5xx, a 401 or 403, an answer that makes no sense. They are tried again until the time
is over. What ends a lease at once: 410, 404 `lease-unknown`, or a result that says `ABORT`. Who is told, and on which
thread, is monitor.py.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Union

from .constraints import SafetyConstraints
from .errors import SafetyError, ServiceError, ServiceUnreachable
from .result import Action, SafetyResult, mapping_of, number_of, text_of
from .service import Answer, Service, not_the_service

log = logging.getLogger("safety")

#: The service promises an answer to "may this start?" within 5 s, and takes up to 2 s to write a grant down.
START_TIMEOUT_SECONDS = 8.0
REQUEST_TIMEOUT_SECONDS = 5.0
#: As often as the service samples loaded hardware: asking at TTL/3 alone would tell an abort up to 10 s late.
LONGEST_PERIOD_SECONDS = 2.0
#: After a WAIT, and after a renewal that failed.
SHORT_PERIOD_SECONDS = 1.0


#: Behind one address there may be several processes of a cluster, of which one grants leases and knows them; each
#: exchange has a connection of its own, so that the next one may find it. Of two, four tries miss it once in sixteen.
LEADER_ATTEMPTS = 4
ELSEWHERE = ("not-leader", "state-unknown")


@dataclass(frozen=True)
class LeaseRequest:
    """What is asked for; `None` leaves it to the service."""

    id: str
    workload: str
    ttl_seconds: float
    intensity: Optional[float] = None
    nodes: Optional[Sequence[str]] = None
    gpus: Optional[Sequence[str]] = None
    max_duration_seconds: Optional[float] = None
    constraints: Optional[SafetyConstraints] = None

    def to_start(self) -> Dict[str, Any]:
        """The part that a preflight takes too."""
        body: Dict[str, Any] = {
            "intensity": self.intensity,
            "nodes": None if self.nodes is None else list(self.nodes),
            "constraints": None if self.constraints is None else self.constraints.to_request(),
        }
        return {key: value for key, value in body.items() if value is not None}

    def to_lease(self) -> Dict[str, Any]:
        body: Dict[str, Any] = {
            "id": self.id,
            "workload": self.workload,
            "ttlSeconds": self.ttl_seconds,
            "gpus": None if self.gpus is None else list(self.gpus),
            "maxDurationSeconds": self.max_duration_seconds,
        }
        return {**self.to_start(), **{key: value for key, value in body.items() if value is not None}}


@dataclass(frozen=True)
class LeaseView:
    """How a lease stands. `intensity_cap`: the share of full load that may be used now, 0 when it is over."""

    result: SafetyResult
    intensity_cap: float
    is_over: bool

    @property
    def is_paused(self) -> bool:
        return not self.is_over and self.result.action is Action.WAIT_COOLDOWN


@dataclass(frozen=True)
class Grant:
    """A lease that was given."""

    id: str
    ttl_seconds: float
    view: LeaseView
    #: Monotonic: when the request was sent.
    sent_at: float


@dataclass(frozen=True)
class Refusal:
    """No lease. `retry_after_seconds`: when to ask again, where asking again can help."""

    result: SafetyResult
    retry_after_seconds: Optional[float] = None


def ask_preflight(service: Service, request: LeaseRequest) -> SafetyResult:
    """May it start? Not being able to ask is an unsafe result; a mistake in the request raises `ServiceError`."""
    try:
        answer = _ask_leader(service, "POST", "/preflight", request.to_start(), START_TIMEOUT_SECONDS)
        if answer.status in (200, 423, 503) and "action" in answer.body:
            result = _result_of(answer, answer.body)
            if result.safe is not (answer.status == 200):
                raise not_the_service(answer.status, f"a result that says {result.action}")
            return result
        raise answer.problem()
    except (ServiceUnreachable, ServiceError) as error:
        return _refusal_of(error).result


def ask_for_lease(service: Service, request: LeaseRequest) -> Union[Grant, Refusal]:
    """Preflight and grant in one. Raises as `ask_preflight` does."""
    sent_at = time.monotonic()
    try:
        answer = _ask_leader(service, "POST", "/leases", request.to_lease(), START_TIMEOUT_SECONDS)
        if answer.status == 201:
            return Grant(request.id, *_lease_of(answer, request.id), sent_at=sent_at)
        if answer.status in (423, 503) and "result" in answer.body:
            result = _result_of(answer, answer.body["result"])
            if result.safe:
                raise not_the_service(answer.status, "a refusal that says PROCEED")
            return Refusal(result, answer.retry_after_seconds)
        raise answer.problem()
    except (ServiceUnreachable, ServiceError) as error:
        return _refusal_of(error)


def _ask_leader(
    service: Service, method: str, path: str, body: Optional[Mapping[str, Any]], timeout_seconds: float
) -> Answer:
    """Asks again where the process that answered only says that another one must be asked."""
    answer = service.ask(method, path, body, timeout_seconds=timeout_seconds)
    for _ in range(LEADER_ATTEMPTS - 1):
        if not _is_elsewhere(answer):
            break
        answer = service.ask(method, path, body, timeout_seconds=timeout_seconds)
    return answer


def _is_elsewhere(answer: Answer) -> bool:
    if answer.status != 503:
        return False
    result = answer.body.get("result", answer.body)
    findings = result.get("findings") if isinstance(result, dict) else None
    codes = [finding.get("code") for finding in findings or () if isinstance(finding, dict)]
    return answer.body.get("code") in ELSEWHERE or "not-leader" in codes


def _refusal_of(error: SafetyError) -> Refusal:
    if isinstance(error, ServiceError):
        if error.code == "lease-ended":
            # Granted, and tripped before the answer was out.
            return Refusal(SafetyResult.made_here(Action.ABORT, "lease-ended", error.detail))
        if 400 <= error.status < 500 and error.code != "not-the-service":
            raise error
        result = SafetyResult.made_here(Action.WAIT_COOLDOWN, error.code, error.detail)
        return Refusal(result, error.retry_after_seconds)
    return Refusal(SafetyResult.made_here(Action.WAIT_COOLDOWN, "service-unreachable", str(error)))


def release(service: Service, lease_id: str, timeout_seconds: float) -> None:
    """Gives a lease back, as well as it goes: one that cannot be given back lapses."""
    try:
        answer = _ask_leader(service, "DELETE", f"/leases/{lease_id}", None, timeout_seconds)
        if answer.status not in (204, 404, 410):
            log.warning("Cannot give lease %s back, it will lapse: %s", lease_id, answer.problem())
    except SafetyError as error:
        log.warning("Cannot give lease %s back, it will lapse: %s", lease_id, error)


class LeaseKeeper:
    """Keeps one granted lease. `on_update` is called from its threads with every new view, and must only pass it on;
    it returns False when nobody is left to be told, and then the lease is given back.
    """

    def __init__(self, service: Service, grant: Grant, on_update: Callable[[LeaseView], bool]) -> None:
        self.lease_id = grant.id
        self._service = service
        self._ttl_seconds = grant.ttl_seconds
        self._timeout_seconds = min(REQUEST_TIMEOUT_SECONDS, grant.ttl_seconds / 3)
        self._on_update = on_update
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._is_known_ended = False
        self._last_problem: Optional[str] = None
        # One reference, so that a reader without the lock never sees a view with another view's time.
        self._heard = (grant.view, grant.sent_at + grant.ttl_seconds)
        self._process_id = os.getpid()

    def start(self) -> None:
        for work, name in ((self._renew, "renewal"), (self._watch, "watch")):
            threading.Thread(target=work, name=f"vsf-safety-{name}", daemon=True).start()

    def view(self) -> LeaseView:
        """How it stands now. Asks the clock itself, for when the threads were not given the time."""
        view, expires_at = self._heard
        if view.is_over or time.monotonic() < expires_at or self._ended.is_set():
            return view
        if os.getpid() != self._process_id:
            # A forked child: neither thread lives here, and a lock that was held at the fork is held for ever.
            return self._lost()
        self._lapse()
        return self._heard[0]

    def end(self, result: SafetyResult) -> None:
        """Ends it on this side at once: nothing renews it any more."""
        self._conclude(LeaseView(result, 0.0, is_over=True))

    def release(self) -> None:
        """Stops renewing at once and gives the lease back; blocks for one request at most."""
        with self._lock:
            self._ended.set()
        if self._is_known_ended or os.getpid() != self._process_id:
            return
        release(self._service, self.lease_id, self._timeout_seconds)

    def _renew(self) -> None:
        wait_seconds = self._period_after(self._heard[0])
        while not self._ended.wait(wait_seconds):
            wait_seconds = SHORT_PERIOD_SECONDS
            sent_at = time.monotonic()
            left_seconds = self._heard[1] - sent_at
            if left_seconds <= 0:
                return
            try:
                view = self._ask_renewal(min(self._timeout_seconds, left_seconds))
            except SafetyError as error:
                # Once per outage: a lease of 300 s would tell of it 300 times.
                level = logging.WARNING if self._last_problem is None else logging.DEBUG
                self._last_problem = str(error)
                log.log(level, "Lease %s was not renewed, %.1f s are left: %s", self.lease_id, left_seconds, error)
                continue
            self._last_problem = None
            if view.is_over:
                self._conclude(view)
            elif self._renewed(view, sent_at):
                wait_seconds = self._period_after(view)

    def _ask_renewal(self, timeout_seconds: float) -> LeaseView:
        path = f"/leases/{self.lease_id}"
        answer = self._service.ask("PUT", path, {}, timeout_seconds=timeout_seconds)
        if answer.status == 200:
            _, view = _lease_of(answer, self.lease_id)
            return view
        problem = answer.problem()
        if problem.code == "lease-ended":
            self._is_known_ended = True
            reason = f"The lease was {problem.outcome or 'ended'}: {problem.reason or problem.detail}"
        elif problem.code == "lease-unknown":
            self._is_known_ended = True
            reason = "The service does not know the lease, so it has lapsed"
        else:
            raise problem
        return LeaseView(SafetyResult.made_here(Action.ABORT, problem.code, reason), 0.0, is_over=True)

    def _watch(self) -> None:
        while not self._ended.is_set():
            left_seconds = self._heard[1] - time.monotonic()
            if left_seconds > 0:
                self._ended.wait(left_seconds)
                continue
            self._lapse()

    def _lapse(self) -> None:
        with self._lock:
            if self._ended.is_set() or time.monotonic() < self._heard[1]:
                return
            # Nobody hears us, and the service's own count ends it: there is nothing to give back.
            self._is_known_ended = True
            view = self._lost()
            self._heard = (view, self._heard[1])
            self._ended.set()
        self._tell_over(view)

    def _lost(self) -> LeaseView:
        reason = (
            f"Nothing was heard from {self._service.url} for {self._ttl_seconds:g} s, the time that the lease lives "
            f"without a renewal: {self._last_problem or 'no renewal was tried'}"
        )
        return LeaseView(SafetyResult.made_here(Action.ABORT, "service-lost", reason), 0.0, is_over=True)

    def _renewed(self, view: LeaseView, sent_at: float) -> bool:
        with self._lock:
            if self._ended.is_set():
                return False
            self._heard = (view, sent_at + self._ttl_seconds)
        if not self._on_update(view):
            why = "The event loop that was to be told has ended"
            self.end(SafetyResult.made_here(Action.ABORT, "holder-gone", why))
            self.release()
        return True

    def _conclude(self, view: LeaseView) -> None:
        """The first verdict stays."""
        with self._lock:
            if self._ended.is_set():
                return
            self._heard = (view, self._heard[1])
            self._ended.set()
        self._tell_over(view)

    def _tell_over(self, view: LeaseView) -> None:
        log.critical("The workload must stop: %s", view.result.reason)
        self._on_update(view)

    def _period_after(self, view: LeaseView) -> float:
        longest = min(LONGEST_PERIOD_SECONDS, self._ttl_seconds / 3)
        return min(longest, SHORT_PERIOD_SECONDS) if view.is_paused else longest


def _result_of(answer: Answer, body: object) -> SafetyResult:
    try:
        return SafetyResult.from_json(body)
    except ValueError as error:
        raise not_the_service(answer.status, str(error)) from error


def _lease_of(answer: Answer, lease_id: str) -> "tuple[float, LeaseView]":
    """The lease's TTL, and how it stands."""
    result = _result_of(answer, answer.body.get("result"))
    try:
        lease: Mapping[str, Any] = mapping_of(answer.body.get("lease"), "lease")
        if text_of(lease, "id") != lease_id:
            raise ValueError(f"another lease's id {lease['id']!r}")
        ttl_seconds = number_of(lease, "ttlSeconds")
        cap = number_of(lease, "intensityCap")
        if not 0 < cap <= 1 or not ttl_seconds > 0:
            raise ValueError(f"intensityCap {cap}, ttlSeconds {ttl_seconds}")
    except ValueError as error:
        raise not_the_service(answer.status, str(error)) from error
    is_over = result.action is Action.ABORT
    return ttl_seconds, LeaseView(result, 0.0 if is_over else cap, is_over)
