"""SafeWorkloadContext against the real service: told, paused, cut, refused, stopped, and left in silence."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import unittest
import warnings
from typing import Any, Callable, List
from unittest import mock

from safety import Action, SafetyResult, SafeWorkloadContext, UnsafeError, context

from .support import NURSERY, Proxy, RealService, until

TTL = 5.0
MISSING = {"kind": "reading-missing", "component": "gpu", "gpu": 0, "quantity": "power"}
POWER_WARNING = {"kind": "gpu-power", "gpu": 1, "valueW": 260}
TOO_WARM = {"kind": "gpu-temperature", "gpu": 2, "valueC": 81}


def enter(service: RealService, **options: Any) -> SafeWorkloadContext:
    return SafeWorkloadContext(url=service.url, **{"ttl_seconds": TTL, **options})


class Told(unittest.IsolatedAsyncioTestCase):
    """Warnings and pauses; nothing here trips or cools, so that one service serves all."""

    service: RealService

    @classmethod
    def setUpClass(cls) -> None:
        cls.service = NURSERY.take()
        cls.addClassCleanup(cls.service.close)

    def setUp(self) -> None:
        self.addCleanup(self.service.faults)

    async def test_a_missing_reading_pauses_the_body_and_its_return_lets_it_go_on(self) -> None:
        warnings: List[SafetyResult] = []
        async with enter(self.service, on_warning=warnings.append) as ctx:
            await asyncio.wait_for(ctx.wait_while_paused(), 0.1)
            self.service.faults(MISSING)
            await until(lambda: ctx.paused, "paused")
            going_on = asyncio.ensure_future(ctx.wait_while_paused())
            await asyncio.sleep(1.2)
            self.assertFalse(going_on.done())
            self.assertTrue(ctx.safe)
            self.service.faults()
            await asyncio.wait_for(going_on, 5)
            self.assertFalse(ctx.paused)
        told = [(each.action, each.findings[0].code) for each in warnings]
        self.assertEqual(told, [("WAIT_COOLDOWN", "reading-missing")])

    async def test_wait_waits_for_as_long_as_the_service_says_when_to_ask_again(self) -> None:
        self.service.faults(MISSING)
        await asyncio.sleep(0)
        refused = enter(self.service)
        async with refused as ctx:
            self.assertFalse(ctx.safe)
            self.assertEqual(ctx.intensity_cap, 0)
            self.assertEqual(ctx.result.action, Action.WAIT_COOLDOWN)
            with self.assertRaises(UnsafeError):
                ctx.raise_if_unsafe()
            self.assertEqual(self.service.leases(), [])
        asyncio.get_running_loop().call_later(0.5, self.service.faults)
        with mock.patch("safety.monitor.LONGEST_WAIT_SECONDS", 1.0):
            async with enter(self.service, wait=True) as ctx:
                self.assertTrue(ctx.safe)

    async def test_the_lease_is_given_back_at_the_end_of_the_body_however_it_ends(self) -> None:
        async with enter(self.service, workload="one", intensity=0.6):
            self.assertEqual([each["workload"] for each in self.service.leases()], ["one"])
        self.assertEqual(self.service.leases(), [])
        with self.assertRaises(ZeroDivisionError):
            async with enter(self.service):
                self.assertEqual(len(self.service.leases()), 1)
                raise ZeroDivisionError
        self.assertEqual(self.service.leases(), [])

    async def test_a_cancellation_from_outside_stays_one_and_gives_the_lease_back(self) -> None:
        entered = asyncio.Event()

        async def body() -> None:
            async with enter(self.service):
                entered.set()
                await asyncio.sleep(60)

        task = asyncio.ensure_future(body())
        await entered.wait()
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        self.assertEqual(self.service.leases(), [])

    async def test_cancelled_while_it_enters_it_keeps_no_lease(self) -> None:
        task = asyncio.ensure_future(enter(self.service).__aenter__())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.5)
        self.assertEqual(self.service.leases(), [])

    async def test_blocking_code_keeps_its_lease_beyond_the_ttl_and_a_forked_child_does_not(self) -> None:
        async with enter(self.service) as ctx:
            with warnings.catch_warnings():
                # Python 3.12 warns of what is done here on purpose: a fork beside threads.
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                time.sleep(TTL + 0.5)
                os._exit(0 if not ctx.safe and ctx.result.findings[0].code == "service-lost" else 1)
            time.sleep(TTL + 1)
            ctx.raise_if_unsafe()
            self.assertEqual(len(self.service.leases()), 1)
            self.assertEqual(os.waitpid(child, 0)[1], 0)

    async def test_a_failing_callback_gets_the_standing_warning_again(self) -> None:
        """The generator that the callback names is made only after the warning has come."""
        generator: List[SafetyResult] = []
        failures = 0

        def warned(result: SafetyResult) -> None:
            nonlocal failures
            if not ready:
                failures += 1
                raise NameError("generator is not there yet")
            generator.append(result)

        ready = False
        with self.assertLogs("safety", "ERROR"):
            async with enter(self.service, on_warning=warned):
                self.service.faults(MISSING)
                await until(lambda: failures == 1, "a first failure")
                ready = True
                await until(lambda: len(generator) == 1, "delivered again")
                await asyncio.sleep(1.2)
        self.assertEqual((failures, len(generator)), (1, 1))

    async def test_a_power_warning_cuts_to_half_and_is_told_once_to_every_kind_of_callback(self) -> None:
        plain: List[SafetyResult] = []
        late: List[SafetyResult] = []

        async def eventually(result: SafetyResult) -> None:
            await asyncio.sleep(0)
            late.append(result)

        async with enter(self.service, intensity=0.6) as ctx:
            self.assertEqual(ctx.intensity_cap, 0.6)
            self.service.faults(POWER_WARNING)
            await until(lambda: ctx.intensity_cap == 0.3, "a cut")
            await asyncio.sleep(0.3)
            # Registered long after the warning, which was kept for them.
            ctx.on_warning(eventually)
            ctx.on_warning(plain.append)
            await until(lambda: len(late) == 1, "delivered late")
            self.assertEqual(late[0].action, Action.REDUCE_INTENSITY)
            self.assertEqual(late[0].intensity_cap, 0.3)
            self.assertTrue(ctx.safe and not ctx.paused)
            await asyncio.sleep(1.8)
        self.assertEqual((len(late), len(plain)), (1, 1))


class Cooled(unittest.IsolatedAsyncioTestCase):
    async def test_a_hot_gpu_pauses_refuses_the_next_start_and_an_emergency_stop_cancels_the_body(self) -> None:
        service = NURSERY.take()
        self.addCleanup(service.close)
        warnings: List[SafetyResult] = []
        critical: List[SafetyResult] = []

        async def ended(result: SafetyResult) -> None:
            await asyncio.sleep(0.2)
            critical.append(result)

        with self.assertRaises(UnsafeError) as stopped:
            async with enter(service, on_warning=warnings.append, on_critical=ended) as ctx:
                service.faults(TOO_WARM)
                # On a busy machine a warning of a late tick may come before it.
                await until(lambda: ctx.paused and any(each.interlock == "cooling" for each in warnings), "cooling")
                async with enter(service) as second:
                    self.assertFalse(second.safe)
                    self.assertIn("81 °C", second.result.reason)
                with self.assertRaises(UnsafeError):
                    async with enter(service, required=True):
                        self.fail("a body ran that must not")
                self.assertTrue(ctx.safe)
                service.ask("POST", "/estop", {"reason": "smoke"})
                started_at = time.monotonic()
                await asyncio.sleep(60)
        self.assertLess(time.monotonic() - started_at, 3)
        self.assertEqual(stopped.exception.result.action, Action.ABORT)
        self.assertIn("smoke", stopped.exception.result.reason)
        self.assertFalse(ctx.safe)
        self.assertEqual(len(critical), 1)
        # Python 3.11 and newer count: ours must not be left over.
        self.assertEqual(getattr(asyncio.current_task(), "cancelling", int)(), 0)
        async with enter(service, wait=True) as third:
            self.assertEqual((third.safe, third.result.action, third.result.interlock), (False, "ABORT", "tripped"))

class Stopped(unittest.IsolatedAsyncioTestCase):
    """Trips without heat, each reset before the next test."""

    service: RealService

    @classmethod
    def setUpClass(cls) -> None:
        cls.service = NURSERY.take()
        cls.addClassCleanup(cls.service.close)

    def setUp(self) -> None:
        self.service.reset()

    async def test_blocking_code_sees_the_abort_at_once_and_on_critical_follows(self) -> None:
        service = self.service
        critical: List[SafetyResult] = []
        started_at = time.monotonic()
        with self.assertRaises(UnsafeError):
            async with enter(service, on_critical=critical.append) as ctx:
                service.ask("POST", "/estop", {"reason": "smoke"})
                while time.monotonic() < started_at + 20:
                    time.sleep(0.05)
                    ctx.raise_if_unsafe()
        self.assertLess(time.monotonic() - started_at, 3)
        self.assertEqual([each.action for each in critical], [Action.ABORT])

    async def test_a_body_that_swallows_the_cancellation_is_cancelled_again(self) -> None:
        service = self.service
        swallowed = 0
        with mock.patch.object(context, "PATIENCE_SECONDS", 0.3), mock.patch.object(context, "INSIST_SECONDS", 0.1):
            with self.assertRaises(UnsafeError):
                async with enter(service) as ctx:
                    service.ask("POST", "/estop")
                    while True:
                        try:
                            await asyncio.sleep(60)
                        except asyncio.CancelledError:
                            swallowed += 1
                            if swallowed == 3:
                                raise
        self.assertEqual(swallowed, 3)
        self.assertFalse(ctx.safe)

    async def test_a_body_that_ends_with_the_abort_leaves_no_cancellation_behind(self) -> None:
        service = self.service
        async with enter(service) as ctx:
            service.ask("POST", "/estop")
            cancelled = asyncio.get_running_loop().create_future()
            ctx.on_critical(lambda _result: cancelled.set_result(None))
            try:
                await cancelled
            except asyncio.CancelledError:
                pass
        await asyncio.sleep(0.05)
        self.assertFalse(ctx.safe)

    async def test_an_emergency_stop_of_its_own_ends_the_body_even_if_the_service_is_gone(self) -> None:
        proxy = Proxy(self.service.port)
        self.addCleanup(proxy.close)
        with self.assertRaises(UnsafeError) as stopped:
            async with SafeWorkloadContext(url=proxy.url, ttl_seconds=TTL) as ctx:
                proxy.cut()
                with mock.patch("safety.monitor.STOP_ATTEMPTS", 1):
                    ctx.monitor.emergency_stop("by hand")
                    await asyncio.sleep(60)
        self.assertIn("by hand", stopped.exception.result.reason)

    async def test_a_lease_that_nobody_knows_is_over_at_once(self) -> None:
        with self.assertRaises(UnsafeError) as stopped:
            async with enter(self.service) as ctx:
                assert ctx.monitor._keeper is not None
                ctx.monitor._keeper.lease_id = "11111111-1111-4111-8111-111111111111"
                await asyncio.sleep(4)
        self.assertEqual(stopped.exception.result.findings[0].code, "lease-unknown")


class Lost(unittest.IsolatedAsyncioTestCase):
    async def lose(self, url: str, lose: Callable[[], None], renewed: List[str], companions: int) -> str:
        """Why the body ended after `lose()`, which comes when all have renewed; it must have been in time."""
        critical: List[SafetyResult] = []
        with self.assertRaises(UnsafeError) as stopped:
            async with SafeWorkloadContext(url=url, ttl_seconds=TTL, on_critical=critical.append) as ctx:
                self.assertTrue(ctx.safe)
                granted_at = ctx.result.evaluated_at
                await until(lambda: ctx.result.evaluated_at > granted_at, "a renewal")
                self.assertFalse(ctx.result.local)
                renewed.append(url)
                await until(lambda: len(renewed) == companions, "a renewal of each")
                lost_at = time.monotonic()
                lose()
                await asyncio.sleep(60)
        took = time.monotonic() - lost_at
        # Counted from when the last renewal was sent: at most a period of TTL/3 and an answer's time ago.
        self.assertGreater(took, TTL / 3)
        self.assertLess(took, TTL + 2)
        self.assertEqual([(each.action, each.safe, each.local) for each in critical], [(Action.ABORT, False, True)])
        self.assertIn("Nothing was heard", stopped.exception.result.reason)
        return critical[0].reason

    async def test_killed_frozen_or_cut_off_the_body_is_cancelled_in_time_and_a_longer_lease_lives_on(self) -> None:
        frozen, killed = NURSERY.take(), NURSERY.take()
        self.addCleanup(frozen.close)
        self.addCleanup(killed.close)
        # To its client a network that passes no bytes is the same whatever is behind it.
        proxy = Proxy(killed.port)
        self.addCleanup(proxy.close)
        async with enter(killed, ttl_seconds=60, workload="patient") as ctx:
            renewed: List[str] = []
            reasons = await asyncio.gather(
                self.lose(frozen.url, lambda: frozen.signal(signal.SIGSTOP), renewed, 3),
                self.lose(proxy.url, proxy.cut, renewed, 3),
                self.lose(killed.url, lambda: killed.signal(signal.SIGKILL), renewed, 3),
            )
            for reason, why in zip(reasons, ("no answer within", "no answer within", "connection refused")):
                self.assertIn(why, reason)
            killed.process.wait()
            again = await asyncio.get_running_loop().run_in_executor(
                None, lambda: RealService(port=killed.port, state_dir=killed.state_dir)
            )
            self.addCleanup(again.close)
            before = ctx.result.evaluated_at
            await until(lambda: ctx.result.evaluated_at > before, "renewed after the restart", 30)
            ctx.raise_if_unsafe()
            self.assertIn("patient", [each["workload"] for each in again.leases()])
        self.assertNotIn("patient", [each["workload"] for each in again.leases()])
