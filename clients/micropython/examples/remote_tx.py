# A button on pin 0 switches the LED of the board that runs remote_rx.py. Best effort: a button that does nothing
# is pressed again. Server: the example remote.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio

import local
from bowline.client import Client
from machine import Pin


async def main():
    button = Pin(0, Pin.IN, Pin.PULL_UP)
    pressed = asyncio.ThreadSafeFlag()
    button.irq(lambda _: pressed.set(), Pin.IRQ_FALLING)
    cl = Client(None, "tx", local.SERVER, local.PORT, local.SSID, local.PW, local.TIMEOUT,
                dialect=local.DIALECT)
    on = 0
    try:
        while True:
            await pressed.wait()
            on = 1 - on
            if not await cl.writeline([on], qos=False):
                print("not sent: press again")
            await asyncio.sleep_ms(200)  # buttons bounce
            pressed.clear()
    finally:
        cl.close()


asyncio.run(main())
