"""Run with `python -m unittest` in clients/python; the service must have been built (`npm run build`)."""

import logging

# What the package logs of the failures made here would drown the outcome; assertLogs() still sees it.
logging.getLogger("safety").addHandler(logging.NullHandler())
# IsolatedAsyncioTestCase runs in debug mode, which tells of every blocking call; the tests block on purpose.
logging.getLogger("asyncio").setLevel(logging.ERROR)
