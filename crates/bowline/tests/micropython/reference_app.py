# A script for the reference's library, as its documentation says. A test changes two lines of it and runs it.
# SPDX-License-Identifier: MIT OR Apache-2.0

import gc

import uasyncio as asyncio
from machine import Pin
from micropython_iot import client

import local


class App:
    def __init__(self, loop, verbose):
        led = Pin(2, Pin.OUT, value=1)
        self.cl = client.Client(loop, local.MY_ID, local.SERVER, local.PORT, local.SSID, local.PW,
                                local.TIMEOUT, conn_cb=self.state, conn_cb_args=("kitchen",),
                                verbose=verbose, led=led, wdog=False)
        self.loop = loop
        loop.create_task(self.start(loop))

    def state(self, state, room):
        print("Connection state:", state, room)

    async def start(self, loop):
        await self.cl
        loop.create_task(self.reader())
        loop.create_task(self.writer())

    async def reader(self):
        while True:
            data = await self.cl.readline()
            print("Got", data, "from server app")
            if data[1] == 2:
                self.loop.stop()

    async def writer(self):
        count = 0
        while self.cl.status():
            gc.collect()
            await self.cl.writeline([self.cl.connects, count, gc.mem_free()])
            count += 1
            await asyncio.sleep_ms(10)

    def close(self):
        self.cl.close()


loop = asyncio.get_event_loop()
app = App(loop, True)
try:
    loop.run_forever()
finally:
    app.close()
