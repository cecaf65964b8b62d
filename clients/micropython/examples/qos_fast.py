# The same in bursts of four at once. Server: the example qos_fast.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio

from numbered import exchange

asyncio.run(exchange(4, 3950))
