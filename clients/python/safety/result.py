"""The answer to "may this run?", read out of JSON with suspicion.

An answer that is incomplete, contradicts itself or names an action that is not known here raises `ValueError`: the rest
of the package then treats it as no answer at all, which is the safe side. Fields that are not known are ignored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Any, Mapping, Optional, Tuple


class Action(str, Enum):
    """What a workload must do; in ascending order of severity. Compares equal to its text: `action == "ABORT"`."""

    PROCEED = "PROCEED"
    REDUCE_INTENSITY = "REDUCE_INTENSITY"
    WAIT_COOLDOWN = "WAIT_COOLDOWN"
    ABORT = "ABORT"

    # Without it the same f-string gives `Action.ABORT` under one Python and `ABORT` under another.
    def __str__(self) -> str:
        return self.value

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)


@dataclass(frozen=True)
class Finding:
    """One constraint warned of, broken, or impossible to judge, with its numbers. Units: `°C`, `W`, `ratio`."""

    code: str
    level: str
    component: str
    action: Action
    message: str
    node: Optional[str] = None
    id: Optional[str] = None
    quantity: Optional[str] = None
    value: Optional[float] = None
    unit: Optional[str] = None
    limit: Optional[float] = None

    @classmethod
    def from_json(cls, given: object) -> Finding:
        body = mapping_of(given, "finding")
        return cls(
            code=text_of(body, "code"),
            level=text_of(body, "level"),
            component=text_of(body, "component"),
            action=Action(text_of(body, "action")),
            message=text_of(body, "message"),
            node=optional_text_of(body, "node"),
            id=optional_text_of(body, "id"),
            quantity=optional_text_of(body, "quantity"),
            value=optional_number_of(body, "value"),
            unit=optional_text_of(body, "unit"),
            limit=optional_number_of(body, "limit"),
        )


@dataclass(frozen=True)
class Unprotected:
    """Something that nothing protects: a waiver, an unmeasured quantity, a looser limit that was ignored."""

    code: str
    message: str
    node: Optional[str] = None
    id: Optional[str] = None
    name: Optional[str] = None

    @classmethod
    def from_json(cls, given: object) -> Unprotected:
        body = mapping_of(given, "unprotected")
        return cls(
            code=text_of(body, "code"),
            message=text_of(body, "message"),
            node=optional_text_of(body, "node"),
            id=optional_text_of(body, "id"),
            name=optional_text_of(body, "name"),
        )


@dataclass(frozen=True)
class SafetyResult:
    """The one shape of every verdict. `safe` is true for `PROCEED` alone; `reason` is the worst finding in words."""

    safe: bool
    action: Action
    reason: str
    findings: Tuple[Finding, ...] = ()
    findings_total: int = 0
    unprotected: Tuple[Unprotected, ...] = ()
    #: With `WAIT_COOLDOWN`: how long to wait before it is worth asking again, in seconds.
    wait_seconds: Optional[float] = None
    intensity_factor: Optional[float] = None
    #: With `REDUCE_INTENSITY`: the share of full load that may be used, 0 to 1.
    intensity_cap: Optional[float] = None
    suggested_power_cap_w: Optional[float] = None
    #: `clear`, `cooling` or `tripped`; `unknown` where this package made the result itself.
    interlock: str = "unknown"
    trip_id: Optional[str] = None
    #: Judged from a rig that does not exist.
    simulated: bool = False
    sequence: Optional[int] = None
    #: ISO 8601, wall clock.
    evaluated_at: str = ""
    profile: str = ""
    constraints_digest: str = ""
    #: Made by this package, because the service could not be heard.
    local: bool = False

    @classmethod
    def from_json(cls, given: object) -> SafetyResult:
        """Raises `ValueError` for what is no result."""
        body = mapping_of(given, "result")
        action = Action(text_of(body, "action"))
        safe = body.get("safe")
        if safe is not (action is Action.PROCEED):
            raise ValueError(f"safe is {safe!r} with action {action}")
        interlock = mapping_of(body.get("interlock"), "interlock")
        findings = tuple(Finding.from_json(each) for each in list_of(body, "findings"))
        return cls(
            safe=action is Action.PROCEED,
            action=action,
            reason=text_of(body, "reason"),
            findings=findings,
            findings_total=int(optional_number_of(body, "findingsTotal") or len(findings)),
            unprotected=tuple(Unprotected.from_json(each) for each in list_of(body, "unprotected")),
            wait_seconds=optional_number_of(body, "waitSeconds"),
            intensity_factor=optional_number_of(body, "intensityFactor"),
            intensity_cap=optional_number_of(body, "intensityCap"),
            suggested_power_cap_w=optional_number_of(body, "suggestedPowerCapW"),
            interlock=text_of(interlock, "state"),
            trip_id=optional_text_of(interlock, "tripId"),
            simulated=body.get("simulated") is True,
            sequence=int(number_of(body, "sequence")),
            evaluated_at=text_of(body, "evaluatedAt"),
            profile=text_of(body, "profile"),
            constraints_digest=text_of(body, "constraintsDigest"),
        )

    @classmethod
    def made_here(cls, action: Action, code: str, reason: str) -> SafetyResult:
        """An unsafe result for when the service has said nothing, or nothing more."""
        level = "critical" if action is Action.ABORT else "refusal"
        return cls(
            safe=False,
            action=action,
            reason=reason,
            findings=(Finding(code=code, level=level, component="monitor", action=action, message=reason),),
            findings_total=1,
            evaluated_at=datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            local=True,
        )


def mapping_of(given: object, what: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise ValueError(f"{what} is {type(given).__name__}, it must be an object")
    return given


def list_of(body: Mapping[str, Any], key: str) -> Tuple[object, ...]:
    value = body.get(key)
    if not isinstance(value, list):
        raise ValueError(f"{key} is {value!r}, it must be a list")
    return tuple(value)


def text_of(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key} is {value!r}, it must be a text")
    return value


def optional_text_of(body: Mapping[str, Any], key: str) -> Optional[str]:
    return None if body.get(key) is None else text_of(body, key)


def number_of(body: Mapping[str, Any], key: str) -> float:
    value = body.get(key)
    # A bool is an int in Python, and json takes NaN and Infinity, which compare as "not too hot".
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{key} is {value!r}, it must be a finite number")
    return value


def optional_number_of(body: Mapping[str, Any], key: str) -> Optional[float]:
    return None if body.get(key) is None else number_of(body, key)
