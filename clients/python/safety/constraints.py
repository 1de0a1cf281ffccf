"""The limits, as a request may bring them. The service takes per cell the stricter of these and its own.

Temperatures in degrees Celsius, power in watts, shares from 0 to 1. A warning and a hard stop are reached from their
value on (84.6 is a warning, 85.0 a hard stop); a maximum may be reached and not passed. The service checks a profile
and refuses an impossible one; this module only says what there is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict


@dataclass(frozen=True)
class Thresholds:
    """Two limits of one quantity; `warning` must be below `hard_stop`."""

    warning: float
    hard_stop: float

    def to_request(self) -> Dict[str, float]:
        return {"warning": self.warning, "hardStop": self.hard_stop}


@dataclass(frozen=True)
class Maximum:
    """One limit that may be reached and not passed."""

    max: float

    def to_request(self) -> Dict[str, float]:
        return {"max": self.max}


@dataclass(frozen=True)
class GpuConstraints:
    """Of each GPU."""

    temperature_c: Thresholds = Thresholds(80, 85)
    power_w: Thresholds = Thresholds(250, 300)
    memory_ratio: Maximum = Maximum(0.9)


@dataclass(frozen=True)
class CpuConstraints:
    """Of the CPU of each node."""

    temperature_c: Thresholds = Thresholds(90, 95)
    utilization_ratio: Maximum = Maximum(0.8)


@dataclass(frozen=True)
class SystemConstraints:
    """Of each node as a whole."""

    power_w: Thresholds = Thresholds(2000, 2200)
    memory_ratio: Maximum = Maximum(0.85)


@dataclass(frozen=True)
class WorkloadConstraints:
    """Of the workload itself."""

    intensity_ratio: Maximum = Maximum(0.8)


@dataclass(frozen=True)
class SafetyConstraints:
    """A profile; what is left out is as in `DEFAULT_CONSTRAINTS`. Make one of your own with `dataclasses.replace`."""

    gpu: GpuConstraints = field(default_factory=GpuConstraints)
    cpu: CpuConstraints = field(default_factory=CpuConstraints)
    system: SystemConstraints = field(default_factory=SystemConstraints)
    workload: WorkloadConstraints = field(default_factory=WorkloadConstraints)

    def to_request(self) -> Dict[str, Dict[str, Dict[str, float]]]:
        """Every cell, in the shape that `constraints` has in a request."""
        return {
            "gpu": {
                "temperatureC": self.gpu.temperature_c.to_request(),
                "powerW": self.gpu.power_w.to_request(),
                "memoryRatio": self.gpu.memory_ratio.to_request(),
            },
            "cpu": {
                "temperatureC": self.cpu.temperature_c.to_request(),
                "utilizationRatio": self.cpu.utilization_ratio.to_request(),
            },
            "system": {
                "powerW": self.system.power_w.to_request(),
                "memoryRatio": self.system.memory_ratio.to_request(),
            },
            "workload": {"intensityRatio": self.workload.intensity_ratio.to_request()},
        }


DEFAULT_CONSTRAINTS = SafetyConstraints()
"""The limits that hold unless a profile says otherwise."""

BIZON1_CONSTRAINTS = SafetyConstraints(
    gpu=GpuConstraints(Thresholds(75, 80), Thresholds(230, 280), Maximum(0.85)),
    cpu=CpuConstraints(Thresholds(85, 90), Maximum(0.7)),
    system=SystemConstraints(Thresholds(1800, 2000), Maximum(0.8)),
    workload=WorkloadConstraints(Maximum(0.7)),
)
"""The stricter limits of the workstation `bizon1`."""
