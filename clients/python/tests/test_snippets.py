"""The README's snippets and the example, as they stand, on a rig that is warned, cooled and aborted."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from typing import List

from .support import CLEAN_ENV, CLIENT, NURSERY, ROOT, RealService

SNIPPETS = re.findall(r"^```python\n(.*?)^```", (CLIENT / "README.md").read_text(), re.S | re.M)


class Program:
    def __init__(self, command: List[str], service: RealService) -> None:
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", *command],
            env={**CLEAN_ENV, "VSF_SAFETY_URL": service.url, "PYTHONPATH": str(CLIENT), "PYTHONIOENCODING": "utf-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def ended(self) -> int:
        code = self.process.wait(15)
        self._reader.join(5)
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Snippets(unittest.TestCase):
    def test_each_runs_is_warned_cooled_and_aborted(self) -> None:
        service = NURSERY.take()
        self.addCleanup(service.close)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        commands = []
        for index, snippet in enumerate(SNIPPETS):
            file = Path(folder.name) / f"snippet{index}.py"
            file.write_text(snippet, encoding="utf-8")
            commands.append([str(file)])
        self.assertEqual(len(commands), 3)
        commands.append([str(ROOT / "examples" / "python-generator" / "generator.py"), "50"])
        programs = []
        for command in commands:
            programs.append(Program(command, service))
            self.addCleanup(programs[-1].close)

        def all_say(what: str, who: List[Program]) -> None:
            service.until(lambda: all(what in each.output for each in who), f"{what}: {[each.output for each in who]}")

        all_say("running at", programs)
        context, steps, blocking, example = programs
        told = [context, steps, example]
        service.faults({"kind": "gpu-power", "gpu": 1, "valueW": 240})
        all_say("warning: REDUCE_INTENSITY", told)
        service.faults({"kind": "gpu-temperature", "gpu": 1, "valueC": 76})
        all_say("warning: WAIT_COOLDOWN", told)
        service.faults({"kind": "gpu-temperature", "gpu": 1, "valueC": 85})
        all_say("critical:", told)
        codes = [each.ended() for each in programs]
        self.assertEqual(codes, [0, 0, 0, 76], [each.output for each in programs])
        for each in (context, blocking, example):
            self.assertIn("stopped: ABORT", each.output)
        self.assertIn("hard stop", context.output)
        for each in programs:
            self.assertNotIn("Traceback", each.output)
            self.assertNotIn("Warning:", each.output)
        refused = Program(commands[0], service)
        self.addCleanup(refused.close)
        self.assertEqual(refused.ended(), 0)
        self.assertIn("refused:", refused.output)
