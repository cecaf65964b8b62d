# What qos.py and qos_fast.py share: numbered messages, and a check of those of the other side.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio

import local
from bowline.client import Client


class Check:
    def __init__(self):
        self.next = self.missed = self.doubled = self.restarts = 0

    def number(self, n):
        if n == 0:  # the other side was started again
            self.restarts += 1
            self.next = 1
        elif n < self.next:
            self.doubled += 1
        else:
            self.missed += n - self.next
            self.next = n + 1

    def __str__(self):
        return "missed %d, doubled %d, starts %d" % (self.missed, self.doubled, self.restarts)


async def reads(cl, check):
    while True:
        check.number((await cl.readline())[0])
        print("got", check.next - 1, "from the server:", check)


# `burst` messages side by side, then a pause of so many ms.
async def exchange(burst, pause):
    cl = Client(None, "qos", local.SERVER, local.PORT, local.SSID, local.PW, local.TIMEOUT,
                dialect=local.DIALECT)
    first = 0
    try:
        asyncio.create_task(reads(cl, Check()))
        while True:
            # Calls that run side by side keep the order in which they were made.
            await asyncio.gather(*(cl.writeline([n, cl.connects]) for n in range(first, first + burst)))
            first += burst
            await asyncio.sleep_ms(pause)
    finally:
        cl.close()
