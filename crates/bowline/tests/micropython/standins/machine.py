# As much of `machine` as the client uses. Time passes when a test says so.
# SPDX-License-Identifier: MIT OR Apache-2.0

resets = 0
timers = []
dogs = []


def reset():
    global resets
    resets += 1


class Timer:
    PERIODIC = 1

    def __init__(self, number):
        self.callback = None
        timers.append(self)

    def init(self, period, mode, callback):
        self.period = period
        self.callback = callback

    def deinit(self):
        self.callback = None


class WDT:
    def __init__(self, number=0, timeout=5000):
        self.timeout = timeout
        self.fed = 0
        dogs.append(self)

    def feed(self):
        self.fed += 1


class Pin:
    OUT = 1

    def __init__(self, number, mode=None, value=0):
        self.state = value
        self.changes = 0

    def __call__(self, *value):
        if not value:
            return self.state
        self.state = value[0]
        self.changes += 1
