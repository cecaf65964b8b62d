# What the WiFi supervision does on which board, in a time of its own.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio
import sys

sys.path[0:0] = ["standins", "../../../../clients/micropython"]

import esp
import network

from bowline import wifi


class Board:
    def __init__(self, platform):
        self.platform = platform


# As much of the client as the supervision uses. `plan`: what happens to the WiFi at which ms.
class Client:
    _ssid, _pw = "home", "secret"
    _init = True

    def __init__(self, platform, there=True, **plan):
        network.there, network.connected, network.joining = there, False, False
        network.joins.clear()
        network.actions.clear()
        wifi.sys = Board(platform)
        self.ms = 0
        self.plan = {int(at[1:]): what for at, what in plan.items()}
        self.bad = 0
        self.wifi = wifi.Wifi(self, network)

    async def pause(self, ms):
        for at in sorted(self.plan):
            if self.ms < at <= self.ms + ms:
                self.plan.pop(at)()
        self.ms += ms

    async def bad_wifi(self):
        self.bad += 1
        network.come_back()
        assert await self.wifi.join()

    def log(self, *args):
        pass

    def starts(self):
        asyncio.run(self._starts())
        return self

    async def _starts(self):
        await self.wifi.first()
        self._init = False
        await self.wifi.up()


# Stored credentials come first, and the program's are not written to the flash.
c = Client("esp8266").starts()
assert network.joins == [()] and not c.bad and esp.sleeps == [esp.SLEEP_NONE]
# They are of another network.
c = Client("esp8266", there=False).starts()
assert c.bad and network.joins[0] == () and ("home", "secret") in network.joins
# Other boards store none.
for platform in ("esp32", "rp2", "pyboard"):
    c = Client(platform).starts()
    assert c.bad == 1 and network.joins == [("home", "secret")], platform
    assert ("ap", False) in network.actions, "no access point"
    assert bool([a for a in network.actions if "pm" in a]) == (platform != "pyboard"), "no power saving"
# A WiFi that goes away within 3 s is no WiFi yet.
c = Client("esp32", _2500=network.drop, _9000=network.come_back).starts()
assert c.ms >= 9000 + wifi.STABLE_MS and c.wifi.joins == 1 and len(network.joins) == 2, (c.ms, network.joins)
# Later it may be away for long.
network.drop()
c.plan = {c.ms + 60000: network.come_back}
asyncio.run(c.wifi.up())
assert c.wifi.joins == 2 and network.connected
# Left because it led nowhere, it is joined again.
asyncio.run(c.wifi.leave())
assert not network.connected
asyncio.run(c.wifi.up())
assert c.wifi.joins == 3 and network.connected
print("all boards")
