# Measures, whether there is WiFi or not: what waits is in a file on the flash, and survives power cuts. Server:
# `bowline serve --open-lan`; there, `bowline record query` shows it.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio
import gc

import local
from bowline.client import Client
from bowline.outbox import Outbox

RECORD = bytearray((3, 0, 0))  # the server's app for telemetry


async def main():
    cl = Client(None, local.MY_ID, local.SERVER, local.PORT, local.SSID, local.PW, local.TIMEOUT,
                dialect=local.DIALECT, outbox=Outbox("log", 65536))
    try:
        while True:
            gc.collect()
            # Returns when it is in the file: it will be recorded once.
            await cl.post(RECORD, {"free": gc.mem_free()})
            await asyncio.sleep(10)
    finally:
        cl.close()


asyncio.run(main())
