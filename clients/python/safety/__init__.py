"""Client of the VSF Safety service: a workload runs under a lease, and ends when it must.

`SafeWorkloadContext` is the whole of it for an asyncio program; `HardwareSafetyMonitor` is the same in single steps.
Standard library only, Python 3.9 or newer.
"""

from .constraints import BIZON1_CONSTRAINTS, DEFAULT_CONSTRAINTS, SafetyConstraints
from .context import SafeWorkloadContext
from .errors import SafetyError, ServiceError, ServiceUnreachable, UnsafeError
from .metrics import HardwareMetrics, NodeMetrics, Reading
from .monitor import HardwareSafetyMonitor, StopAnswer
from .result import Action, Finding, SafetyResult, Unprotected

__all__ = [
    "Action",
    "BIZON1_CONSTRAINTS",
    "DEFAULT_CONSTRAINTS",
    "Finding",
    "HardwareMetrics",
    "HardwareSafetyMonitor",
    "NodeMetrics",
    "Reading",
    "SafeWorkloadContext",
    "SafetyConstraints",
    "SafetyError",
    "SafetyResult",
    "ServiceError",
    "ServiceUnreachable",
    "StopAnswer",
    "Unprotected",
    "UnsafeError",
]
