"""The real service on a free port over a simulated rig, and a network that can be cut."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Deque, Dict, List, Optional

CLIENT = Path(__file__).resolve().parents[1]
ROOT = CLIENT.parents[1]
MAIN = Path(os.environ.get("VSF_SAFETY_SERVE") or ROOT / "dist" / "cli" / "main.js")

#: Nothing of the developer's own settings, and no proxy between a test and its service.
CLEAN_ENV = {key: value for key, value in os.environ.items() if not key.startswith("VSF_SAFETY_")}
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class RealService:
    """One process, killed with `close()`. The tick is 1 s, so that a change is told soon."""

    def __init__(self, *, port: int = 0, state_dir: Optional[str] = None) -> None:
        self.state_dir = state_dir or tempfile.mkdtemp(prefix="vsf-safety-python-")
        command = ["node", str(MAIN), "serve", "--source", "simulated", "--port", str(port)]
        self.process = subprocess.Popen(
            [*command, "--state-dir", self.state_dir],
            env={**CLEAN_ENV, "VSF_SAFETY_INTERVAL": "1s", "VSF_SAFETY_FAST_INTERVAL": "1s"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output: List[str] = []
        self._listening = threading.Event()
        self.url = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._listening.wait(20) or not self.url:
            self.close()
            raise RuntimeError("the service did not come up: " + "".join(self.output))
        self.until(lambda: self.ask("GET", "/preflight")["_status"] == 200, "safe to start")

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            found = re.search(r"listening at (http://[^\"\s]+)", line)
            if found:
                self.url = found.group(1)
                self._listening.set()
        self._listening.set()

    def ask(self, method: str, path: str, body: Optional[object] = None) -> Dict[str, Any]:
        """As the operator."""
        token = (Path(self.state_dir) / "operator-token").read_text().strip()
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with OPENER.open(request, timeout=10) as response:
                return {**json.loads(response.read() or b"{}"), "_status": response.status}
        except urllib.error.HTTPError as error:
            return {**json.loads(error.read() or b"{}"), "_status": error.code}

    def faults(self, *faults: Dict[str, Any]) -> None:
        answer = self.ask("POST", "/simulation", {"faults": list(faults)})
        assert answer["_status"] == 200, answer

    def leases(self) -> List[Dict[str, Any]]:
        leases: List[Dict[str, Any]] = self.ask("GET", "/status")["leases"]
        return leases

    def until(self, is_so: Callable[[], bool], what: str, seconds: float = 15) -> None:
        ends_at = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > ends_at:
                raise AssertionError(f"did not come about: {what}\n" + "".join(self.output[-20:]))
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()
        shutil.rmtree(self.state_dir, ignore_errors=True)


    def reset(self) -> None:
        """Ends a trip, if there is one, so that the next test finds the service clear."""
        self.faults()
        tripped = self.ask("GET", "/estop")
        if tripped["state"] == "tripped":
            body = {"tripId": tripped["tripId"], "reason": "next test", "acknowledgeUnverified": True}
            self.until(lambda: self.ask("POST", "/estop/reset", body)["_status"] == 200, "reset")


class Nursery:
    """Has the next services started while a test still runs: a start takes as long as most tests do."""

    SPARE = 2

    def __init__(self) -> None:
        self._starter = ThreadPoolExecutor(self.SPARE)
        self._starting: "Deque[Future[RealService]]" = deque()

    def take(self) -> RealService:
        if not self._starting:
            atexit.register(self._close)
        while len(self._starting) <= self.SPARE:
            self._starting.append(self._starter.submit(RealService))
        return self._starting.popleft().result()

    def _close(self) -> None:
        for each in self._starting:
            each.result().close()


NURSERY = Nursery()


class Proxy:
    """Passes bytes between a client and the service until it is cut: then connections stay open, and silent."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: List[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._cut.set()

    def close(self) -> None:
        for each in self._open:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            try:
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                continue
            self._open.append(server)
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while True:
                data = source.recv(65536)
                if self._cut.is_set():
                    return
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)
        except OSError:
            return


async def until(is_so: Callable[[], bool], what: str, seconds: float = 10) -> None:
    ends_at = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > ends_at:
            raise AssertionError(f"did not come about: {what}")
        await asyncio.sleep(0.02)
