"""What this package raises. Whoever catches `SafetyError` has caught all of it."""

from __future__ import annotations

from typing import Optional

from .result import SafetyResult


class SafetyError(Exception):
    """The base of the others."""


class UnsafeError(SafetyError):
    """The workload must not run, or not any longer; `result` says why."""

    def __init__(self, result: SafetyResult) -> None:
        super().__init__(f"{result.action}: {result.reason}")
        self.result = result

    def __reduce__(self) -> "tuple[type[UnsafeError], tuple[SafetyResult]]":
        # Without it the error could not come back out of a worker process.
        return UnsafeError, (self.result,)


class ServiceUnreachable(SafetyError):
    """No answer came: nothing listens, the network is cut, the deadline is over, or the token file cannot be read."""


class ServiceError(SafetyError):
    """The service answered with a problem (RFC 9457); `code` never changes its meaning.

    `not-the-service` is this package's own code: something answered that is no VSF Safety.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        status: int,
        outcome: Optional[str] = None,
        reason: Optional[str] = None,
        retry_after_seconds: Optional[float] = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status
        #: With `lease-ended`: `stopped`, `lapsed`, `revoked` or `released`, and why.
        self.outcome = outcome
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds

    def __reduce__(self) -> "tuple[type[ServiceError], tuple[object, ...]]":
        told = (self.code, self.detail, self.status, self.outcome, self.reason, self.retry_after_seconds)
        return ServiceError, told
