# A board with several apps: `micropython apps_board.py HOST PORT ID DIALECT`. Commands on standard input.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio
import json
import sys

sys.path.insert(0, "../../../../clients/micropython")

from bowline.apps import get_apphandler
from bowline.mqtt import Mqtt
from bowline.oneshot import TimeoutError, request
from bowline.services import Clock, echo, http


def say(*words):
    print(*words)


class Watched(Mqtt):
    async def _tell(self):
        await super()._tell()
        say("told")


class Board:
    def __init__(self, host, port, ident, dialect):
        self.handler = get_apphandler(None, ident, host, int(port), timeout=1500, dialect=dialect,
                                      conn_cb=self.state, verbose=True)
        assert get_apphandler() is self.handler

    def state(self, up):
        say("up" if up else "down")

    def heard(self, topic, payload, retained):
        say("heard", topic, payload, retained)

    async def do(self, word, rest):
        if word == "echo":
            say("echoed", json.dumps(await echo(json.loads(rest))))
        elif word == "http":
            status, body, more = await http(rest)
            say("answer", status, body, more)
        elif word == "time":
            clock = await Clock(1970).sync(5000)
            say("time", clock.utc(), clock.local())
        elif word == "ask":
            ident, timeout, rest = rest.split(" ", 2)
            say("answer", await request(int(ident), json.loads(rest), timeout=int(timeout)))
        elif word == "mqtt":
            will, welc = [None if m == "-" else m.split(":") + [2, False] for m in rest.split(" ")]
            self.mqtt = Watched(will, welc)
        elif word == "subscribe":
            await self.mqtt.subscribe(rest, self.heard)
            say("subscribed")
        elif word == "publish":
            topic, payload, *retain = rest.split(" ")
            await self.mqtt.publish(topic, payload, retain=bool(retain))
        elif word == "drop":
            self.handler.fail("drop")
        elif word == "stats":
            say("late", self.handler.late)

    async def commands(self):
        stdin = asyncio.StreamReader(sys.stdin.buffer)
        while True:
            line = await stdin.readline()
            if not line:
                return
            word, _, rest = line.decode().strip().partition(" ")
            try:
                await self.do(word, rest)
            except (OSError, TimeoutError) as e:
                say("error", type(e).__name__, e)


async def main(*args):
    await Board(*args).commands()


asyncio.run(main(*sys.argv[1:]))
