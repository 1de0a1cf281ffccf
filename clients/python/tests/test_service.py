"""The exchange itself: deadlines, proxies, redirects, tokens, TLS, and answers that are none."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
from typing import Any, Callable, Dict, List, Sequence
from unittest import mock

from safety import SafetyResult, ServiceError, ServiceUnreachable
from safety.lease import Grant, LeaseKeeper, LeaseRequest, LeaseView, Refusal, ask_for_lease, ask_preflight
from safety.service import Service

ID = "11111111-1111-4111-8111-111111111111"
RESULT: Dict[str, Any] = {
    "safe": True,
    "action": "PROCEED",
    "reason": "Every check passes",
    "findings": [],
    "findingsTotal": 0,
    "unprotected": [],
    "interlock": {"state": "clear", "nodes": {}},
    "sequence": 1,
    "evaluatedAt": "2026-01-01T00:00:00.000Z",
    "profile": "default",
    "constraintsDigest": "0",
    "aFieldOfTomorrow": 1,
}
LEASE = {"id": ID, "ttlSeconds": 5, "intensityCap": 0.8}


class Stand(http.server.BaseHTTPRequestHandler):
    """Answers whatever a test wants, well or badly."""

    answer: Callable[[Stand], None]
    seen: List[Dict[str, str]]

    def handle_any(self) -> None:
        self.seen.append({key.lower(): value for key, value in self.headers.items()})
        self.rfile.read(int(self.headers.get("content-length", 0)))
        type(self).answer(self)

    do_GET = do_PUT = do_POST = do_DELETE = handle_any

    def log_message(self, *_: object) -> None:
        pass


def stand(test: unittest.TestCase, answer: Callable[[Stand], None], tls: "ssl.SSLContext | None" = None) -> Any:
    handler: Any = type("Handler", (Stand,), {"answer": answer, "seen": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    test.addCleanup(server.server_close)
    test.addCleanup(server.shutdown)
    handler.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    return handler


def says(status: int, body: object, **headers: str) -> Callable[[Stand], None]:
    def answer(self: Stand) -> None:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    return answer


class Exchange(unittest.TestCase):
    def setUp(self) -> None:
        cleaned = {key: value for key, value in os.environ.items() if not key.startswith("VSF_SAFETY_")}
        patched = mock.patch.dict(os.environ, cleaned, clear=True)
        patched.start()
        self.addCleanup(patched.stop)

    def test_the_deadline_holds_against_a_peer_that_sends_a_byte_now_and_then(self) -> None:
        def trickle(self: Stand) -> None:
            try:
                for _ in range(100):
                    self.wfile.write(b"H")
                    time.sleep(0.1)
            except OSError:
                pass

        def trickle_body(self: Stand) -> None:
            self.send_response(200)
            self.end_headers()
            trickle(self)

        for answer in (trickle, trickle_body):
            started_at = time.monotonic()
            with self.assertRaisesRegex(ServiceUnreachable, "no answer within 0.5 s"):
                Service(stand(self, answer).url).ask("GET", "/status", timeout_seconds=0.5)
            self.assertLess(time.monotonic() - started_at, 1)

    def test_the_deadline_holds_against_a_peer_that_accepts_nothing(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            with self.assertRaises(ServiceUnreachable):
                Service(url).ask("GET", "/status", timeout_seconds=0.3)

    def test_no_proxy_is_used_and_no_redirect_followed(self) -> None:
        elsewhere = stand(self, says(200, RESULT))
        here = stand(self, says(302, {}, location=elsewhere.url))
        with mock.patch.dict(os.environ, {"http_proxy": elsewhere.url, "HTTP_PROXY": elsewhere.url}):
            self.assertEqual(Service(here.url, token="t").ask("GET", "/", timeout_seconds=2).status, 302)
        self.assertEqual(elsewhere.seen, [])

    def test_the_token_comes_from_argument_file_or_environment(self) -> None:
        here = stand(self, says(200, {}))
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("first\n")
            file.flush()
            from_file = Service(here.url, token_file=file.name)
            from_file.ask("GET", "/", timeout_seconds=2)
            file.seek(0)
            file.write("second\n")
            file.flush()
            from_file.ask("GET", "/", timeout_seconds=2)
        with self.assertRaisesRegex(ServiceUnreachable, "token file"):
            from_file.ask("GET", "/", timeout_seconds=2)
        with mock.patch.dict(os.environ, {"VSF_SAFETY_TOKEN": " of-env \n", "VSF_SAFETY_URL": here.url + "/"}):
            Service().ask("GET", "/", timeout_seconds=2)
        Service(here.url).ask("GET", "/", timeout_seconds=2)
        sent = [each.get("authorization") for each in here.seen]
        self.assertEqual(sent, ["Bearer first", "Bearer second", "Bearer of-env", None])

    def test_an_address_or_token_that_can_be_none_is_refused(self) -> None:
        for url in ("127.0.0.1:8470", "ftp://a", "http://", "http://user:word@a", "http://a?b"):
            with self.subTest(url), self.assertRaises(ValueError):
                Service(url)
        with self.assertRaises(ValueError):
            Service(token="two\nlines")

    @unittest.skipUnless(shutil.which("openssl"), "openssl makes the certificate")
    def test_tls_trusts_the_ca_file_and_nobody_else(self) -> None:
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        key, certificate = f"{folder}/key.pem", f"{folder}/certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
            + ["-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
            check=True,
            capture_output=True,
        )
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        here = stand(self, says(200, {"a": 1}), tls)
        trusting = Service(here.url, ca_file=certificate)
        self.assertEqual(trusting.ask("GET", "/", timeout_seconds=2).body, {"a": 1})
        with self.assertRaisesRegex(ServiceUnreachable, "(?i)certificate"):
            Service(here.url).ask("GET", "/", timeout_seconds=2)


class Answers(unittest.TestCase):
    def preflight(self, answer: Callable[[Stand], None]) -> SafetyResult:
        return ask_preflight(Service(stand(self, answer).url), LeaseRequest(ID, "w", 5))

    def test_ask_preflight_takes_no_doubtful_answer_for_safe(self) -> None:
        self.assertTrue(self.preflight(says(200, RESULT)).safe)
        for name, answer in {
            "contradicts itself": says(200, {**RESULT, "action": "ABORT"}),
            "contradicts itself the other way": says(200, {**RESULT, "safe": False}),
            "unknown action": says(200, {**RESULT, "action": "CARRY_ON"}),
            "no action": says(200, {key: value for key, value in RESULT.items() if key != "action"}),
            "safe by another status": says(503, RESULT),
            "no JSON": says(200, b"<html>"),
            "no object": says(200, b"[]"),
            "cut": says(200, json.dumps(RESULT).encode()[:-5]),
            "nested": says(200, b"[" * 200_000),
            "not a number": says(200, json.dumps({**RESULT, "sequence": float("nan")}).encode()),
            "a redirect": says(302, RESULT),
            "another server's 404": says(404, b"not found"),
        }.items():
            with self.subTest(name):
                result = self.preflight(answer)
                self.assertEqual((result.safe, result.local), (False, True))

    def test_ask_for_lease_takes_no_doubtful_answer_for_a_grant(self) -> None:
        def ask(answer: Callable[[Stand], None]) -> object:
            return ask_for_lease(Service(stand(self, answer).url), LeaseRequest(ID, "w", 5))

        self.assertIsInstance(ask(says(201, {"lease": LEASE, "result": RESULT})), Grant)
        for name, answer in {
            "200": says(200, {"lease": LEASE, "result": RESULT}),
            "another lease": says(201, {"lease": {**LEASE, "id": "2"}, "result": RESULT}),
            "a cap over 1": says(201, {"lease": {**LEASE, "intensityCap": 2}, "result": RESULT}),
            "no time": says(201, {"lease": {**LEASE, "ttlSeconds": 0}, "result": RESULT}),
            "no result": says(201, {"lease": LEASE}),
            "refused as safe": says(503, {"result": RESULT}),
        }.items():
            with self.subTest(name):
                self.assertIsInstance(ask(answer), Refusal)
        busy = ask(says(503, {"code": "lease-limit", "detail": "full"}, retry_after="10"))
        assert isinstance(busy, Refusal)
        self.assertEqual((busy.retry_after_seconds, busy.result.action), (10, "WAIT_COOLDOWN"))
        with self.assertRaises(ServiceError):
            ask(says(403, {"code": "role-insufficient", "detail": "viewer"}))


def keep(urls: Dict[str, str], looks: Sequence[float]) -> Dict[str, List[LeaseView]]:
    """A lease of 2 s at each address, side by side, and what had been told of it after so many seconds."""
    views: Dict[str, List[LeaseView]] = {}

    def watch(name: str, url: str) -> None:
        granted_at = time.monotonic()
        view = LeaseView(SafetyResult.from_json(RESULT), 0.8, is_over=False)
        told = [view]

        def tell(changed: LeaseView) -> bool:
            told.append(changed)
            return True

        LeaseKeeper(Service(url), Grant(ID, 2.0, view, granted_at), tell).start()
        seen = []
        for look in looks:
            time.sleep(max(0, granted_at + look - time.monotonic()))
            seen.append(told[-1])
        views[name] = seen

    threads = [threading.Thread(target=watch, args=each) for each in urls.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return views


class Keeping(unittest.TestCase):
    def test_what_is_no_renewal_keeps_the_lease_to_its_ttl_and_not_beyond(self) -> None:
        answers = {
            "evaluation-too-old": says(503, {"code": "evaluation-too-old", "detail": "old"}),
            "not-leader": says(503, {"code": "not-leader", "detail": "another leads"}),
            "token-invalid": says(401, {"code": "token-invalid", "detail": "who?"}),
            "a proxy's 404": says(404, b"not found"),
            "a proxy's 410": says(410, b"{}"),
            "another lease": says(200, {"lease": {**LEASE, "id": "2"}, "result": RESULT}),
        }
        views = keep({name: stand(self, answer).url for name, answer in answers.items()}, (1.7, 2.1))
        for name, (before, after) in views.items():
            with self.subTest(name):
                self.assertFalse(before.is_over)
                self.assertTrue(after.is_over)
                self.assertEqual(after.result.findings[0].code, "service-lost")

    def test_a_renewal_keeps_it(self) -> None:
        url = stand(self, says(200, {"lease": {**LEASE, "intensityCap": 0.4}, "result": RESULT})).url
        ((view,),) = keep({"renewed": url}, (2.5,)).values()
        self.assertEqual((view.is_over, view.intensity_cap), (False, 0.4))

    def test_an_end_that_the_service_tells_of_is_one_at_once(self) -> None:
        hot = {**RESULT, "safe": False, "action": "ABORT", "reason": "hot"}
        answers = {
            "lapsed": says(410, {"code": "lease-ended", "detail": "over", "outcome": "lapsed", "reason": "late"}),
            "does not know": says(404, {"code": "lease-unknown", "detail": "who?"}),
            "hot": says(200, {"lease": LEASE, "result": hot}),
        }
        views = keep({name: stand(self, answer).url for name, answer in answers.items()}, (1.5,))
        for name, (view,) in views.items():
            with self.subTest(name):
                self.assertTrue(view.is_over)
                self.assertIn(name, view.result.reason)
                self.assertEqual(view.intensity_cap, 0)
