# What the server's built-in apps do for a board: echo, http, time.
# SPDX-License-Identifier: MIT OR Apache-2.0

import time

from .oneshot import request

ECHO, HTTP, TIME = 0, 2, 5


async def echo(data, timeout=30, **kw):
    return await request(ECHO, data, timeout=timeout, **kw)


# GETs `url`, or what the fields say: method, headers, body, want, limit. Returns (status, body, more).
# OSError: there is no answer.
async def http(url, timeout=60, handler=None, **fields):
    if fields:
        fields["url"] = url
    a = await request(HTTP, fields or url, timeout=timeout, handler=handler)
    if isinstance(a, dict):
        raise OSError("%s: %s" % (a["error"], a.get("detail")))
    return a[0], a[1], a[2] if len(a) > 2 else {}


# Wall time for boards without a clock, asked of the server's app time. `epoch`: 1970, or 2000 as many
# ports of MicroPython count.
class Clock:
    def __init__(self, epoch=2000, handler=None):
        self._epoch = epoch
        self._handler = handler
        self.error = None  # ms by which it may be wrong; None: not known yet

    # Asks until the answer is better than `error` ms. To be called every few days: ticks wrap around.
    async def sync(self, error=500, tries=5, timeout=5):
        for _ in range(tries):
            # Best effort: a qos request is stored first, and the answer is late.
            a = await request(TIME, [time.ticks_ms(), self._epoch], timeout=timeout, qos=False,
                              handler=self._handler)
            read = time.ticks_ms()
            if isinstance(a, dict):
                raise OSError("%s: %s" % (a["error"], a.get("detail")))
            trip = time.ticks_diff(read, a[0])
            if 0 <= trip <= 2 * error:
                self._at = read
                self._ms = a[1] + trip // 2
                self.offset, self._change, self._after = a[2:]
                self.error = (trip + 1) // 2
                return self
        raise OSError("the answers take too long")

    # ms since the epoch, UTC.
    def utc(self):
        now = time.ticks_ms()
        self._ms += time.ticks_diff(now, self._at)
        self._at = now
        return self._ms

    # The same where the server is.
    def local(self):
        t = self.utc()
        late = self._change is not None and t >= self._change
        return t + 1000 * (self._after if late else self.offset)
