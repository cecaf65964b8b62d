# How long a qos message takes to its ACK, against a bare socket echo in the same run:
# `micropython bench/latency.py HOST PORT [COUNT]`, in the folder clients/micropython, on the machine of a
# server that stores nothing (`store.durability = "memory"`).
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio
import sys
import time

sys.path.insert(0, ".")

from bowline.client import Client

HOST = sys.argv[1]
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else 0
COUNT = int(sys.argv[3]) if len(sys.argv) > 3 else 2000
ECHO_PORT = 9007


def median(times):
    times.sort()
    return times[len(times) // 2]


# The other end, a process of its own: `micropython bench/latency.py echo`.
async def echo_server():
    async def serve(reader, writer):
        while True:
            line = await reader.readline()
            if not line:
                break
            writer.write(line)
            await writer.drain()

    await asyncio.start_server(serve, "127.0.0.1", ECHO_PORT)
    while True:
        await asyncio.sleep(3600)


async def bare():
    reader, writer = await asyncio.open_connection("127.0.0.1", ECHO_PORT)
    times = []
    for _ in range(COUNT):
        t = time.ticks_us()
        writer.write(b"[1, 2, 3]\n")
        await writer.drain()
        await reader.readline()
        times.append(time.ticks_diff(time.ticks_us(), t))
    return median(times)


async def ours(dialect):
    cl = Client(None, "latency" + dialect, HOST, PORT, dialect=dialect)

    async def reads():
        try:
            while True:
                await cl.read()
        except OSError:
            pass

    asyncio.create_task(reads())
    await cl
    times = []
    for _ in range(COUNT):
        t = time.ticks_us()
        await cl.writeline([1, 2, 3])
        times.append(time.ticks_diff(time.ticks_us(), t))
    cl.close()
    return median(times)


async def main():
    for run in range(3):
        b = await bare()
        print("run %d: socket echo %d us" % (run + 1, b), end="")
        for dialect in "HN":
            o = await ours(dialect)
            print(", qos on %s %d us (%.1f x)" % (dialect, o, o / b), end="")
        print()


if HOST == "echo":
    asyncio.run(echo_server())
else:
    asyncio.run(main())
