# Runs for some minutes against a server that echoes, whatever becomes of it meanwhile, and counts:
# `micropython bench/soak.py HOST PORT MINUTES [DIALECT]`, in the folder clients/micropython.
# SPDX-License-Identifier: MIT OR Apache-2.0

import sys

sys.path.insert(0, sys.argv[5] if len(sys.argv) > 5 else ".")

import asyncio
import gc
import time

from bowline.apps import App, get_apphandler

seen = [0, 0]  # doubled, missed


class Numbers(App):
    ident = 0

    def __init__(self):
        super().__init__()
        self.next = 0

    def handle(self, tag, n):
        if n < self.next:
            seen[0] += 1
        else:
            seen[1] += n - self.next
            self.next = n + 1


async def sends(app, until):
    n = 0
    while time.time() < until:
        await app.write(0, n)
        n += 1
        await asyncio.sleep_ms(20)
    while app.next < n:
        await asyncio.sleep_ms(100)
    return n


async def main(host, port, minutes, dialect):
    handler = get_apphandler(None, "soak%d" % time.ticks_us(), host, int(port), dialect=dialect)
    until = time.time() + int(minutes) * 60
    tasks = [asyncio.create_task(sends(Numbers(), until)) for _ in range(2)]
    minute = 0
    while time.time() < until:
        gc.collect()
        print("minute %d: %d bytes in use, %d links" % (minute, gc.mem_alloc(), handler.connects))
        minute += 1
        await asyncio.sleep(min(60, max(1, until - time.time())))
    sent = 0
    for t in tasks:
        sent += await t
    gc.collect()
    print("sent %d, doubled %d, missed %d, links %d, %d bytes in use" % (
        sent, seen[0], seen[1], handler.connects, gc.mem_alloc()))
    handler.close()


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else "N"))
