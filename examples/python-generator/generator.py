"""A workload generator in its shortest form: loads one CPU core, as hard as the safety service allows.

    pip install ./clients/python
    python examples/python-generator/generator.py [SECONDS]

Exit codes as in `vsf-safety run`: 0 done, 75 refused, 76 stopped for safety.
"""

import asyncio
import sys
import time

from safety import SafeWorkloadContext, UnsafeError

SLICE_SECONDS = 0.1


async def generate(ctx: SafeWorkloadContext, seconds: float) -> None:
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        await ctx.wait_while_paused()
        busy_seconds = SLICE_SECONDS * ctx.intensity_cap
        busy_until = time.monotonic() + busy_seconds
        while time.monotonic() < busy_until:
            pass
        await asyncio.sleep(SLICE_SECONDS - busy_seconds)


async def main(seconds: float) -> int:
    context = SafeWorkloadContext(
        on_warning=lambda result: print("warning:", result.action, result.reason, flush=True),
        on_critical=lambda result: print("critical:", result.reason, flush=True),
        workload="example-generator",
        wait=True,
    )
    try:
        async with context as ctx:
            if not ctx.safe:
                print("refused:", ctx.result.reason, flush=True)
                return 75
            print("running at", ctx.intensity_cap, flush=True)
            await generate(ctx, seconds)
    except UnsafeError as error:
        print("stopped:", error.result.action, flush=True)
        return 76
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)))
