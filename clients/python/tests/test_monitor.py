"""HardwareSafetyMonitor against the real service, in the steps of its users."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import unittest
from dataclasses import FrozenInstanceError, replace
from typing import List
from unittest import mock

from safety import Action, HardwareSafetyMonitor, SafetyResult, ServiceError, ServiceUnreachable, UnsafeError
from safety.constraints import BIZON1_CONSTRAINTS, DEFAULT_CONSTRAINTS, CpuConstraints, Maximum, Thresholds

from .support import MAIN, NURSERY, RealService, until

NOBODY = "http://127.0.0.1:9"


class Monitor(unittest.IsolatedAsyncioTestCase):
    service: RealService

    @classmethod
    def setUpClass(cls) -> None:
        cls.service = NURSERY.take()
        cls.addClassCleanup(cls.service.close)

    def setUp(self) -> None:
        self.addCleanup(self.service.faults)

    def monitor(self, **options: object) -> HardwareSafetyMonitor:
        return HardwareSafetyMonitor(url=self.service.url, ttl_seconds=5, **options)  # type: ignore[arg-type]

    async def test_pre_flight_check_judges_by_the_stricter_limits(self) -> None:
        self.service.faults({"kind": "gpu-memory", "gpu": 0, "ratio": 0.87})
        by_default = await self.monitor().pre_flight_check()
        self.assertTrue(by_default.safe)
        self.assertEqual((by_default.action, by_default.reason), ("PROCEED", "Every check passes"))
        self.assertTrue(by_default.simulated)
        strict = await self.monitor(constraints=BIZON1_CONSTRAINTS).pre_flight_check()
        self.assertFalse(strict.safe)
        self.assertEqual(strict.action, Action.REDUCE_INTENSITY)
        self.assertEqual((strict.findings[0].code, strict.findings[0].limit), ("over-maximum", 0.85))

    async def test_a_looser_constraint_is_ignored_and_named(self) -> None:
        loose = replace(DEFAULT_CONSTRAINTS, cpu=CpuConstraints(Thresholds(90, 95), Maximum(0.99)))
        result = await self.monitor(constraints=loose).pre_flight_check()
        self.assertEqual([each.name for each in result.unprotected], ["cpu.utilizationRatio.max"])

    async def test_pre_flight_check_of_a_service_that_is_not_there_is_unsafe(self) -> None:
        result = await HardwareSafetyMonitor(url=NOBODY).pre_flight_check()
        self.assertEqual((result.safe, result.local, result.action), (False, True, Action.WAIT_COOLDOWN))
        self.assertIn("connection refused", result.reason)

    async def test_a_mistake_in_the_request_is_an_error_with_its_code(self) -> None:
        inverted = replace(DEFAULT_CONSTRAINTS, cpu=CpuConstraints(Thresholds(95, 90)))
        for code, monitor in (
            ("unknown-node", self.monitor(nodes=["nowhere"])),
            ("constraints-invalid", self.monitor(constraints=inverted)),
            ("token-invalid", self.monitor(token="wrong")),
            ("invalid-request", self.monitor(intensity=1.5)),
        ):
            for ask in (monitor.pre_flight_check, monitor.start_runtime_monitoring):
                with self.subTest(code), self.assertRaises(ServiceError) as raised:
                    await ask()
                self.assertEqual(raised.exception.code, code)
                self.assertEqual(pickle.loads(pickle.dumps(raised.exception)).detail, raised.exception.detail)

    async def test_over_the_maximum_intensity_is_refused_and_not_waited_for(self) -> None:
        with self.assertRaises(UnsafeError) as raised:
            await self.monitor(intensity=0.9).take_lease(wait=True)
        self.assertEqual(raised.exception.result.intensity_cap, 0.8)
        self.assertEqual(pickle.loads(pickle.dumps(raised.exception)).result, raised.exception.result)

    async def test_warnings_before_a_callback_is_registered_are_kept(self) -> None:
        monitor = self.monitor()
        self.assertFalse(monitor.safe)
        with self.assertRaises(UnsafeError):
            monitor.raise_if_unsafe()
        await monitor.start_runtime_monitoring()
        self.assertTrue(monitor.safe)
        self.service.faults({"kind": "reading-missing", "component": "cpu", "quantity": "temperature"})
        await until(lambda: monitor.paused, "paused")
        self.service.faults()
        await until(lambda: not monitor.paused, "going on")
        told: List[SafetyResult] = []
        monitor.on_warning(told.append)
        await until(lambda: len(told) == 1, "told late")
        self.assertEqual(told[0].findings[0].code, "reading-missing")
        await monitor.stop_runtime_monitoring()
        self.assertFalse(monitor.safe)
        self.assertEqual(self.service.leases(), [])

    async def test_stop_runtime_monitoring_gives_the_lease_back_also_when_it_is_not_awaited(self) -> None:
        monitor = self.monitor()
        await monitor.start_runtime_monitoring()
        self.assertEqual(await monitor.start_runtime_monitoring(), monitor.result)
        self.assertEqual(len(self.service.leases()), 1)
        monitor.stop_runtime_monitoring()
        await until(lambda: self.service.leases() == [], "given back")
        await monitor.stop_runtime_monitoring()

    async def test_collect_metrics_tells_every_reading(self) -> None:
        self.service.faults({"kind": "reading-missing", "component": "gpu", "gpu": 0, "quantity": "power"})
        metrics = await self.monitor().collect_metrics()
        self.assertTrue(metrics.simulated)
        await asyncio.sleep(1.5)
        (node,) = (await self.monitor().collect_metrics()).nodes
        gpus = [each for each in node.readings if (each.component, each.quantity) == ("gpu", "power")]
        gpus.sort(key=lambda each: each.id or "")
        self.assertEqual(len(gpus), 4)
        self.assertEqual([each.unit for each in gpus], ["W"] * 4)
        self.assertEqual([each.value is None for each in gpus], [True, False, False, False])
        self.assertIsNotNone(gpus[0].missing)
        self.assertEqual((await self.monitor(nodes=["nowhere"]).collect_metrics()).nodes, ())


class EmergencyStop(unittest.IsolatedAsyncioTestCase):
    service: RealService

    @classmethod
    def setUpClass(cls) -> None:
        cls.service = NURSERY.take()
        cls.addClassCleanup(cls.service.close)

    def setUp(self) -> None:
        self.service.reset()

    async def test_it_is_under_way_with_the_call_and_tells_on_critical(self) -> None:
        service = self.service
        critical: List[SafetyResult] = []
        # A token that the service does not know must not keep anybody from stopping.
        monitor = HardwareSafetyMonitor(url=service.url, token="unknown-here")
        holder = HardwareSafetyMonitor(url=service.url, workload="holder", ttl_seconds=5)
        holder.on_critical(critical.append)
        await holder.start_runtime_monitoring()
        monitor.emergency_stop("smoke")
        service.until(lambda: service.ask("GET", "/estop")["state"] == "tripped", "tripped")
        await until(lambda: len(critical) == 1, "told")
        self.assertIn("smoke", critical[0].reason)
        answer = await monitor.emergency_stop()
        self.assertEqual((answer.joined, answer.trip_id), (True, service.ask("GET", "/estop")["tripId"]))
        result = await monitor_result(service)
        self.assertEqual((result.action, result.interlock, result.trip_id), ("ABORT", "tripped", answer.trip_id))

    def test_without_an_event_loop_it_can_be_waited_for(self) -> None:
        service = self.service
        answer = HardwareSafetyMonitor(url=service.url).emergency_stop("no loop").wait(10)
        self.assertFalse(answer.joined)
        self.assertEqual(service.ask("GET", "/estop")["reason"], "no loop")

    def test_when_nobody_answers_it_says_so(self) -> None:
        pause = mock.patch("safety.monitor.time.sleep")
        with pause, self.assertLogs("safety", "CRITICAL") as logged, self.assertRaises(ServiceUnreachable):
            HardwareSafetyMonitor(url=NOBODY).emergency_stop().wait(10)
        self.assertEqual(len(logged.output), 3)

    def test_a_lease_whose_event_loop_has_ended_is_given_back(self) -> None:
        service = self.service
        monitor = HardwareSafetyMonitor(url=service.url, ttl_seconds=5)
        asyncio.run(monitor.start_runtime_monitoring())
        service.until(lambda: service.leases() == [], "given back", 5)
        with self.assertRaises(UnsafeError):
            monitor.raise_if_unsafe()


async def monitor_result(service: RealService) -> SafetyResult:
    return await HardwareSafetyMonitor(url=service.url).pre_flight_check()


class Constraints(unittest.TestCase):
    def test_they_are_the_service_s_own(self) -> None:
        module = MAIN.parents[1] / "domain" / "constraints.js"
        script = f"const c = await import({json.dumps(str(module))}); console.log(JSON.stringify(c))"
        told = subprocess.run(["node", "--input-type=module", "-e", script], check=True, capture_output=True).stdout
        theirs = json.loads(told)
        self.assertEqual(DEFAULT_CONSTRAINTS.to_request(), theirs["DEFAULT_CONSTRAINTS"])
        self.assertEqual(BIZON1_CONSTRAINTS.to_request(), theirs["BIZON1_CONSTRAINTS"])

    def test_they_are_frozen(self) -> None:
        with self.assertRaises(FrozenInstanceError):
            DEFAULT_CONSTRAINTS.gpu.temperature_c.hard_stop = 99  # type: ignore[misc]
