# A watchdog: resets the board when the program has not fed it for 20 s.
# SPDX-License-Identifier: MIT OR Apache-2.0

import sys

import machine

SECONDS = 20


# `how`: True as in the reference (the Pyboard's hardware, a timer on others), "hard", "soft". The
# result feeds it; with True it stops it, if that is possible.
def watchdog(how=True):
    if how == "hard" or how is True and sys.platform == "pyboard":
        try:
            dog = machine.WDT(0, SECONDS * 1000)
        except ValueError:
            dog = machine.WDT(timeout=8000)  # the Pico's most is 8388
        return lambda stop=False: dog.feed()
    return Soft().feed


class Soft:
    def __init__(self):
        self._left = 0  # 0: not fed yet
        try:
            t = machine.Timer(-1)
        except ValueError:
            t = machine.Timer(0)  # no virtual ones: some ESP32
        t.init(period=1000, mode=machine.Timer.PERIODIC, callback=self._second)
        self._timer = t

    def feed(self, stop=False):
        self._left = SECONDS
        if stop and self._timer:
            self._timer.deinit()
            self._timer = None

    def _second(self, _):
        if self._left:
            self._left -= 1
            if not self._left:
                machine.reset()
