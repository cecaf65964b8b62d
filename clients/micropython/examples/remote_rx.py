# The LED on pin 2 does what the board with remote_tx.py says. Server: the example remote.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio

import local
from bowline.client import Client
from machine import Pin


async def main():
    led = Pin(2, Pin.OUT, value=1)
    cl = Client(None, "rx", local.SERVER, local.PORT, local.SSID, local.PW, local.TIMEOUT,
                dialect=local.DIALECT)
    try:
        while True:
            (on,) = await cl.readline()
            led(not on)  # most boards' LED is on when the pin is low
    finally:
        cl.close()


asyncio.run(main())
