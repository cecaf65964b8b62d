# Both sides send numbered messages, one after the other. Switch the WiFi off and on: nothing is missed, nothing
# comes twice. Server: the example qos.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio

from numbered import exchange

asyncio.run(exchange(1, 5000))
