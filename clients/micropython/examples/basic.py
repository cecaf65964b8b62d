# Sends a list every 5 s and prints what comes back. Server: `bowline serve --open-lan`, or the example basic.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio
import gc

import local
from bowline.client import Client


def state(up):
    print("connected" if up else "no connection")


async def reads(cl):
    while True:
        print("got", await cl.readline())


async def main():
    cl = Client(None, local.MY_ID, local.SERVER, local.PORT, local.SSID, local.PW, local.TIMEOUT,
                conn_cb=state, verbose=True, dialect=local.DIALECT)
    try:
        asyncio.create_task(reads(cl))
        count = 0
        while True:
            gc.collect()
            # Returns when the server has it, whatever happens to WiFi and server meanwhile.
            await cl.writeline([count, cl.connects, gc.mem_free()])
            count += 1
            await asyncio.sleep(5)
    finally:
        cl.close()


asyncio.run(main())
