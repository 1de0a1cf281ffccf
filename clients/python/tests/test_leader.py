"""Several processes of a cluster behind one address: the next connection may find the one that leads."""

from __future__ import annotations

import unittest
from typing import Any, Dict, List, Mapping, Optional

from safety.lease import LEADER_ATTEMPTS, Grant, LeaseRequest, Refusal, ask_for_lease, ask_preflight, release
from safety.service import Answer

REQUEST = LeaseRequest(id="0b0e7a52-8f0e-4f8e-9d7c-2b1f5f3f9a01", workload="train-7", ttl_seconds=30)


def result(action: str, *codes: str) -> Dict[str, Any]:
    return {
        "safe": action == "PROCEED",
        "action": action,
        "reason": action,
        "findings": [
            {"code": code, "level": "refusal", "component": "monitor", "action": action, "message": code}
            for code in codes
        ],
        "unprotected": [],
        "interlock": {"state": "clear", "nodes": {}},
        "sequence": 1,
        "evaluatedAt": "2026-01-01T00:00:00.000Z",
        "profile": "default",
        "constraintsDigest": "0",
    }


class Processes:
    """Answers as so many processes that do not lead, and then as the one that does."""

    def __init__(self, standby: Answer, leader: Answer, standbys: int) -> None:
        self.answers: List[Answer] = [standby] * standbys + [leader]
        self.asked: List[Optional[Mapping[str, Any]]] = []
        self.url = "http://pretended"

    def ask(
        self, method: str, path: str, body: Optional[Mapping[str, Any]] = None, *, timeout_seconds: float
    ) -> Answer:
        self.asked.append(body)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


class LeaderTest(unittest.TestCase):
    def test_a_start_is_asked_of_the_next_process_with_the_same_id(self) -> None:
        standby = Answer(503, {"result": result("WAIT_COOLDOWN", "not-leader")}, 10.0)
        granted = {
            "lease": {"id": REQUEST.id, "ttlSeconds": 30, "intensityCap": 0.8},
            "result": result("PROCEED"),
        }
        service: Any = Processes(standby, Answer(201, granted, None), 3)
        self.assertIsInstance(ask_for_lease(service, REQUEST), Grant)
        self.assertEqual({body["id"] for body in service.asked}, {REQUEST.id})

        service = Processes(standby, Answer(201, granted, None), LEADER_ATTEMPTS)
        self.assertIsInstance(ask_for_lease(service, REQUEST), Refusal)
        self.assertEqual(len(service.asked), LEADER_ATTEMPTS)

    def test_a_preflight_is_asked_again_and_a_refusal_by_hardware_is_not(self) -> None:
        standby = Answer(503, result("WAIT_COOLDOWN", "not-leader"), 10.0)
        service: Any = Processes(standby, Answer(200, result("PROCEED"), None), 1)
        self.assertTrue(ask_preflight(service, REQUEST).safe)
        hot = Answer(503, result("WAIT_COOLDOWN", "interlock-cooling"), 60.0)
        service = Processes(hot, Answer(200, result("PROCEED"), None), 1)
        self.assertFalse(ask_preflight(service, REQUEST).safe)

    def test_a_lease_is_given_back_to_the_process_that_knows_it(self) -> None:
        for code in ("not-leader", "state-unknown"):
            standby = Answer(503, {"code": code, "detail": code}, 1.0)
            service: Any = Processes(standby, Answer(204, {}, None), 2)
            release(service, REQUEST.id, 5.0)
            self.assertEqual(len(service.asked), 3)


if __name__ == "__main__":
    unittest.main()
