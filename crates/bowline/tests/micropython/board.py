# A board with the package `bowline`: `micropython board.py HOST PORT ID TIMEOUT_MS [NAME=VALUE …]`.
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# NAME=VALUE: arguments of Client; outbox=FILE is an Outbox there, and standins=1 puts a WiFi and a
# `machine` under it. Commands come on standard input, one a line, events go to standard output: `do` says
# which.

import asyncio
import json
import sys

sys.path.insert(0, "../../../../clients/micropython")


def say(*words):
    sys.stdout.buffer.write(" ".join(str(w) for w in words).encode() + b"\n")


class Board:
    def __init__(self, host, port, ident, timeout, options):
        if options.pop("standins", None):
            sys.path.insert(0, "standins")
            import machine

            options["led"] = self.led = machine.Pin(2, machine.Pin.OUT)
        from bowline import client

        if "outbox" in options:
            from bowline.outbox import Outbox

            options["outbox"] = Outbox(options["outbox"], options.pop("size", 16384))
        board = self

        class Client(client.Client):
            def log(self, *args):
                if args[0] == "bad":
                    say(*args)
                elif self._verbose:
                    print(*args)

            async def bad_server(self):
                say("no server")
                if board.give_up:
                    raise OSError("given up")

        self.give_up = options.pop("give_up", 0)
        self.deaf = options.pop("deaf", 0)
        self.n = 0
        self.cl = Client(
            None, ident, host, port, options.pop("ssid", ""), options.pop("pw", ""), timeout,
            conn_cb=self.state, conn_cb_args=(ident,), **options
        )
        self.tasks = {}
        if not self.deaf:
            self.tasks["listen"] = asyncio.create_task(self.listen())

    async def state(self, state, ident):
        say("up" if state else "down " + str(self.cl.reason))

    def got(self, header, data):
        say("got", header.hex() if header else "-", json.dumps(data))

    async def listen(self):
        try:
            while True:
                self.got(*await self.cl.read())
        except OSError as e:
            say("no more", e)

    async def write(self, n, header, data, qos):
        try:
            done = await self.cl.write(header, data, qos)
            say(("acked %d" if qos else "sent %d") % n if done else "unsent %d" % n)
        except (OSError, ValueError, TypeError) as e:
            say("error", n, type(e).__name__, e)

    # qos | be | head HEX | bad HEADER: writes; `cancel N` cancels the Nth
    # many N; post, flush; read: one message; listen; drop: the link; wifi drop | back; tick SECONDS of
    # timers; stats; close
    async def do(self, word, rest):
        if word in ("qos", "be", "head", "bad"):
            self.n += 1
            header = None
            if word == "head":
                h, _, rest = rest.partition(" ")
                header = bytearray(bytes.fromhex(h))
            elif word == "bad":
                header, rest = rest, '"x"'
            data = json.loads(rest) if rest else None
            self.tasks[self.n] = asyncio.create_task(self.write(self.n, header, data, word != "be"))
        elif word == "many":
            for i in range(int(rest)):
                self.n += 1
                self.tasks[self.n] = asyncio.create_task(self.write(self.n, None, self.n, True))
        elif word == "cancel":
            self.tasks[int(rest)].cancel()
            say("cancelled", rest)
        elif word == "post":
            self.n += 1
            await self.cl.post(None, json.loads(rest))
            say("posted", self.n)
        elif word == "flush":
            await self.cl.flush()
            say("flushed")
        elif word == "read":
            self.got(*await self.cl.read())
        elif word == "listen":
            self.tasks["listen"] = asyncio.create_task(self.listen())
        elif word == "wifi":
            import network

            network.drop() if rest == "drop" else network.come_back()
        elif word == "tick":
            import machine

            for _ in range(int(rest)):
                for t in machine.timers:
                    if t.callback:
                        t.callback(t)
            say("resets", machine.resets)
        elif word == "standins":
            import machine
            import network

            say("joins", json.dumps(network.joins), "actions", json.dumps(network.actions),
                "blinked" if self.led.changes else "dark", "fed" if machine.dogs and machine.dogs[0].fed else "-")
        elif word == "stats":
            c = self.cl
            d = c._d
            say("stats", json.dumps({
                "connects": c.connects, "status": c.status(), "call": c(), "bad": c.bad, "lost": c.lost,
                "seq": c.seq, "unread": len(c._q), "waiting": c.outbox.last - c.outbox.acked,
                "skipped": getattr(d, "skipped", 0), "gaps": getattr(d, "gaps", 0)}))
        elif word == "drop":
            self.cl.fail("drop")
        elif word == "close":
            self.cl.close()
            say("closed")
        else:
            raise ValueError("unknown command " + word)

    async def dies(self):
        try:
            while True:
                await self.cl
                await asyncio.sleep(3600)
        except OSError as e:
            say("ended", e)

    async def commands(self):
        asyncio.create_task(self.dies())
        stdin = asyncio.StreamReader(sys.stdin.buffer)
        while True:
            line = await stdin.readline()
            if not line:
                return
            word, _, rest = line.decode().strip().partition(" ")
            try:
                await self.do(word, rest)
            except (OSError, ValueError) as e:
                say("error", type(e).__name__, e)


def die(loop, context):
    sys.print_exception(context["exception"], sys.stderr)
    say("error bug", context["exception"])
    sys.exit(1)


async def main(host, port, ident, timeout, *pairs):
    asyncio.get_event_loop().set_exception_handler(die)
    options = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        options[name] = int(value) if value.isdigit() else value
    await Board(host, int(port), ident, int(timeout), options).commands()


asyncio.run(main(*sys.argv[1:]))
