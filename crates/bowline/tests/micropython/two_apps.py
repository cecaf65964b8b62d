# Two apps over one link: `micropython -X heapsize=40k two_apps.py FOLDER HOST PORT DIALECT`.
# SPDX-License-Identifier: MIT OR Apache-2.0

import sys

sys.path.insert(0, sys.argv[1])

import asyncio
import gc

from bowline.apps import App, AppHandler


async def main(host, port, dialect):
    handler = AppHandler(None, "two" + sys.argv[4] + (sys.argv[5] if len(sys.argv) > 5 else ""), host, int(port), dialect=dialect)
    await handler
    a = App(0)
    b = App(0)
    for i in range(100):
        await a.write(1, ["a", i])
        await b.write(2, ["b", i])
        assert await a.read() == (1, ["a", i])
        assert await b.read() == (2, ["b", i])
    gc.collect()
    print("free", gc.mem_free())
    handler.close()


asyncio.run(main(*sys.argv[2:5]))
