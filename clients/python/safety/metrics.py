"""What the service reads of the hardware, as `collect_metrics()` hands it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from .result import list_of, mapping_of, optional_number_of, optional_text_of, text_of


@dataclass(frozen=True)
class Reading:
    """One quantity of one component: measured, or missing with a cause. Units: `°C`, `W`, `ratio` (0 to 1)."""

    component: str
    quantity: str
    unit: str
    id: Optional[str] = None
    value: Optional[float] = None
    age_seconds: Optional[float] = None
    source: Optional[str] = None
    #: Why there is no value: `no-sensor`, `stale`, `frozen` …; `None` where there is one.
    missing: Optional[str] = None

    @classmethod
    def from_json(cls, given: object) -> Reading:
        body = mapping_of(given, "reading")
        return cls(
            component=text_of(body, "component"),
            quantity=text_of(body, "quantity"),
            unit=text_of(body, "unit"),
            id=optional_text_of(body, "id"),
            value=optional_number_of(body, "value"),
            age_seconds=optional_number_of(body, "ageSeconds"),
            source=optional_text_of(body, "source"),
            missing=optional_text_of(body, "missing"),
        )


@dataclass(frozen=True)
class NodeMetrics:
    """The readings of one node, and its interlock: `clear`, `cooling` or `tripped`."""

    node: str
    interlock: str
    readings: Tuple[Reading, ...]

    @classmethod
    def from_json(cls, given: object) -> NodeMetrics:
        body = mapping_of(given, "node")
        return cls(
            node=text_of(body, "node"),
            interlock=text_of(body, "interlock"),
            readings=tuple(Reading.from_json(each) for each in list_of(body, "readings")),
        )


@dataclass(frozen=True)
class HardwareMetrics:
    """All readings of one moment."""

    #: ISO 8601, wall clock of the service.
    at: str
    simulated: bool
    nodes: Tuple[NodeMetrics, ...]

    @classmethod
    def from_json(cls, given: object) -> HardwareMetrics:
        body = mapping_of(given, "status")
        return cls(
            at=text_of(body, "at"),
            simulated=body.get("simulated") is True,
            nodes=tuple(NodeMetrics.from_json(each) for each in list_of(body, "nodes")),
        )
