# Several apps over one link: mqtt, an echo now and then, and the time. Server: `bowline serve` with [apps.mqtt] and
# [apps.time] in its configuration.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio

import local
from bowline.apps import get_apphandler
from bowline.mqtt import Mqtt
from bowline.services import Clock, echo


def switch(topic, payload, retained):
    print(topic, "says", payload, "(as it was before)" if retained else "")


async def main():
    handler = get_apphandler(None, local.MY_ID, local.SERVER, local.PORT, local.TIMEOUT,
                             ssid=local.SSID, pw=local.PW, dialect=local.DIALECT)
    try:
        mqtt = Mqtt(will=["home/lamp/status", "offline", True], welc=["home/lamp/status", "online", True])
        await mqtt.subscribe("home/lamp/set", switch)  # its state first, if the broker has one
        clock = await Clock().sync()
        count = 0
        while True:
            await mqtt.publish("home/lamp/count", count, retain=True)
            print("echo:", await echo(["hello", count]), "at", clock.utc(), "ms")
            count += 1
            await asyncio.sleep(5)
    finally:
        handler.close()


asyncio.run(main())
