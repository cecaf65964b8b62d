# WiFi: joins, makes sure that it is stable, joins again.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio
import sys

JOIN_MS = 10000
STABLE_MS = 3000
PAUSE_MS = 500


class Wifi:
    def __init__(self, client, network):
        self.c = client
        ap = getattr(network.WLAN, "IF_AP", None)
        sta = getattr(network.WLAN, "IF_STA", None)
        network.WLAN(network.AP_IF if ap is None else ap).active(False)
        s = self.sta = network.WLAN(network.STA_IF if sta is None else sta)
        s.active(True)
        self._awake(network)
        self.joins = 0  # times that a WiFi was joined

    # A radio that sleeps answers late and loses packets.
    def _awake(self, network):
        try:
            if sys.platform == "esp8266":
                import esp

                esp.sleep_type(esp.SLEEP_NONE)
            elif sys.platform == "rp2":
                self.sta.config(pm=getattr(network.WLAN, "PM_NONE", 0xA11140))
            elif sys.platform == "esp32":
                self.sta.config(pm=getattr(network.WLAN, "PM_NONE", 0))
        except (AttributeError, ImportError, ValueError, OSError):
            pass  # firmware without the setting: it goes on with what it has

    # The first time. The ESP8266 has stored the last good network: it gets its chance first, and no new
    # one is stored unless need be.
    async def first(self):
        await self.c.pause(1000)  # the radio does not always start right after power-up
        if self.sta.isconnected():
            return
        if sys.platform == "esp8266":
            self.sta.connect()
            if await self._wait(4000):
                return
        await self.c.bad_wifi()

    # One attempt with the credentials of the program.
    async def join(self):
        self.c.log("joining WiFi")
        if sys.platform == "esp8266" and not self.c._init:
            self.sta.connect()  # stored by now
        elif self.c._ssid:
            self.sta.connect(self.c._ssid, self.c._pw)
        else:
            raise ValueError("no WiFi credentials")
        return await self._wait(JOIN_MS)

    # Returns when there is WiFi, and was for a while.
    async def up(self):
        if self.sta.isconnected() and self.joins:
            return
        while True:
            if self.sta.isconnected() or await self._again():
                if not await self._wait(STABLE_MS, False):
                    self.joins += 1
                    self.c.log("WiFi is up")
                    return
                self.c.log("WiFi is not stable")

    async def _again(self):
        self.sta.disconnect()
        await self.c.pause(PAUSE_MS)
        try:
            return await self.join()
        except OSError as e:  # the ESP32 says so when it is still busy
            self.c.log("WiFi:", e)
            await self.c.pause(1000)
            return False

    async def leave(self):
        self.sta.disconnect()
        await self._wait(5000, False)

    # Whether it was connected (or was not) at a moment of this time. Drivers have no events for that.
    async def _wait(self, ms, state=True):
        while ms > 0:
            if self.sta.isconnected() == state:
                return True
            await self.c.pause(min(ms, 250))
            ms -= 250
        return self.sta.isconnected() == state
