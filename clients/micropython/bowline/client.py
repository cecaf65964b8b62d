# The connection to the server, and what is read and written over it.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio
import gc
import json
import sys
import time

gc.collect()


# Runs a callback, or a coroutine in a task of its own. What it raises is shown and harms nobody.
def launch(f, *args):
    try:
        res = f(*args)
        if hasattr(res, "send"):
            asyncio.create_task(_shown(res))
    except Exception as e:
        sys.print_exception(e)


async def _shown(coro):
    try:
        await coro
    except Exception as e:
        sys.print_exception(e)


# Wakes all who wait, and only those.
def notify(event):
    event.set()
    event.clear()


# One connection's life.
class Link:
    def __init__(self, stream, fail):
        self.stream = stream
        self.fail = fail
        self.pend = b""  # what the socket has not taken yet
        self.free = asyncio.Event()  # notified when it has
        self._task = None
        self.wrote = self.heard = time.ticks_ms()
        self.wait = 0  # ms to stay away after it
        try:
            import socket

            stream.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (AttributeError, OSError):
            pass  # a port without it: a little slower when many messages go at once

    # Never blocks: what the socket does not take goes out in a task of its own.
    def send(self, data):
        self.wrote = time.ticks_ms()
        if self._task is None:
            try:
                n = self.stream.s.write(data) or 0
            except OSError as e:
                self.fail(e)
                return
            if n == len(data):
                return
            data = data[n:]
            self._task = asyncio.create_task(self._flush())
        self.pend += data

    async def _flush(self):
        try:
            while self.pend:
                p = self.pend
                self.pend = b""
                self.stream.write(p)
                await self.stream.drain()
                self.wrote = time.ticks_ms()
            self._task = None
            notify(self.free)
        except OSError as e:
            self.fail(e)

    @property
    def busy(self):
        return self._task is not None

    def close(self):
        if self._task:
            self._task.cancel()
        self.stream.s.close()
        notify(self.free)


class Client:
    # As in the reference; behind the star is what is new. `loop` is not used and may be None.
    def __init__(self, loop, my_id, server, port=9999, ssid="", pw="", timeout=4000,
                 conn_cb=None, conn_cb_args=None, verbose=False, led=None, wdog=False, *,
                 dialect="H", key=None, outbox=None, cursor=False, queue=5, body=512):
        self._id = my_id.encode() if isinstance(my_id, str) else bytes(my_id)
        self._to = timeout
        self._addr = (server, port)
        self._concb = conn_cb
        self._conargs = conn_cb_args or ()
        self._verbose = verbose
        self._led = led
        self._feed = lambda stop=False: None
        if wdog:
            from .wdog import watchdog

            self._feed = watchdog(wdog)
        self.connects = 0  # links that came up
        self.seq = None  # (epoch, seq) of the message that was read last, on N
        self.lost = 0  # best effort that came and found no room
        self.bad = 0  # messages that could not be read
        self.error = None  # what ended the client
        self.reason = None  # why the last link, or attempt, ended
        self._ok = False
        self._closed = False
        self._init = True
        self._link = None
        self._q = []  # (epoch, seq, size, header, object)
        self._held = 0  # bytes in it
        self._took = None  # the message that was read last
        self._rx = asyncio.Event()
        self._up = asyncio.Event()
        self._acks = asyncio.Event()
        self._gone = asyncio.Event()
        self._turn = asyncio.Lock()  # whoever waits for room in the outbox, in order
        self._puts = 0
        self.queue = queue
        self.cursor = cursor
        if outbox is None:
            from .queue import Ram

            outbox = Ram()
        self.outbox = outbox
        if dialect == "N":
            from .native import Native

            self._d = Native(self, body, key)
        elif dialect == "H" and not key:
            from .headers import Headers

            self._d = Headers(self)
        else:
            raise ValueError("dialect is H, or N with or without a key")
        self._wifi = None
        self._sta_if = None
        try:
            import network

            from .wifi import Wifi

            self._wifi = Wifi(self, network, ssid, pw)
            self._sta_if = self._wifi.sta
            self._ssid, self._pw = ssid, pw
        except ImportError:
            pass  # a wired board, or a computer
        gc.collect()
        self._tasks = ()  # of the link
        self._task = asyncio.create_task(self._run())

    # ---- what a program uses ----

    # Waits until the server is there.
    def __iter__(self):
        while not self._ok:
            self._alive()
            yield from self._up.wait()

    __await__ = __iter__

    def status(self):
        return self._ok

    __call__ = status

    # (header or None, object)
    async def read(self):
        self._handled()
        while not self._q:
            self._alive()
            await self._rx.wait()
        m = self._q.pop(0)
        self._held -= m[2]
        self._took = m
        self.seq = m[:2]
        self._d.room()
        return m[3], m[4]

    async def readline(self):
        return (await self.read())[1]

    # qos: returns when the server has it. Otherwise when it was sent; False if the link broke then.
    async def write(self, header, buf, qos=True):
        data = self.encode(buf)
        self._d.check(header, data)
        if not qos:
            await self
            return await self._d.best(header, data)
        n = await self._put(header, data)
        while self.outbox.done < n:
            self._alive()
            await self._acks.wait()
        return True

    async def writeline(self, buf, qos=True):
        return await self.write(None, buf, qos)

    # Returns when the message is in the outbox, in the file if that is one: it will arrive.
    async def post(self, header, buf):
        data = self.encode(buf)
        self._d.check(header, data)
        await self._put(header, data)

    # Waits until everything has arrived that was in the outbox at the call.
    async def flush(self):
        n = self.outbox.done + self.outbox.last - self.outbox.acked
        while self.outbox.done < n:
            self._alive()
            await self._acks.wait()

    # Ends the client; stops a watchdog that can be stopped.
    def close(self):
        if not self._closed:
            self._closed = True
            # Before the socket: it must not be polled any more. From a callback it is this very task.
            for t in self._tasks + (self._task,):
                try:
                    t.cancel()
                except RuntimeError:
                    pass
            self._down()
            if self._link:
                self._link.close()
            self._feed(True)
            self.outbox.close()
            self._wake()

    # ---- to be overridden ----

    # Awaited at the start while there is no WiFi (but on an ESP8266 first of all the network it has
    # stored is tried). What it raises ends the client.
    async def bad_wifi(self):
        if not self._ssid:
            raise OSError("No initial WiFi connection.")
        while not await self._wifi.join():
            pass

    # Awaited after every failed attempt, until the server was there once. What it raises ends the client.
    async def bad_server(self):
        pass

    # A message that could not be read. It is acknowledged, because the next one waits behind it.
    def bad_message(self, data):
        self.log("cannot read", data)

    def encode(self, obj):
        return b"" if obj is None else json.dumps(obj).encode()

    def decode(self, data):
        return json.loads(data.decode()) if data else None

    # ---- what the dialects use ----

    def log(self, *args):
        if self._verbose:
            print(*args)

    # The link is of use from here on.
    def came_up(self):
        if self._ok:
            return
        self._ok = True
        self._init = False
        self.connects += 1
        notify(self._up)
        if self._concb:
            launch(self._concb, True, *self._conargs)

    # A message of the server, for the application. `qos`: whoever cannot take it must not lose it.
    def deliver(self, epoch, seq, header, data):
        try:
            try:
                obj = self.decode(data)
            except MemoryError:
                gc.collect()
                obj = self.decode(data)
        except Exception:
            self.bad += 1
            self.bad_message(data)
            return
        self._q.append((epoch, seq, len(data), header, obj))
        self._held += len(data)
        notify(self._rx)

    def full(self):
        return len(self._q) >= self.queue

    # The head of the outbox, and all up to `seq`, have arrived.
    def acked(self, seq, now=False):
        if seq > self.outbox.acked:
            self.outbox.ack(seq, now)
            notify(self._acks)

    def beat(self):
        led = self._led
        if led is not None:
            led.toggle() if hasattr(led, "toggle") else led(not led())

    # ---- inside ----

    def _alive(self):
        if self.error:
            raise self.error
        if self._closed:
            raise OSError("closed")

    def _wake(self):
        for event in (self._up, self._rx, self._acks):
            notify(event)

    def _handled(self):
        m = self._took
        if m:
            self._d.handled(m[0], m[1])  # OSError: it could not be stored, the next read tries again
            self._took = None

    # Returns how many must have arrived for this one to have.
    async def _put(self, header, data):
        ob = self.outbox
        if self._puts or not ob.put(header, data):
            self._puts += 1
            try:
                async with self._turn:
                    while not ob.put(header, data):
                        self._alive()
                        await self._acks.wait()
            finally:
                self._puts -= 1
        n = ob.done + ob.last - ob.acked
        if self._ok:
            self._d.pump()
        return n

    def _down(self):
        if self._ok:
            self._ok = False
            if self._concb:
                launch(self._concb, False, *self._conargs)

    async def pause(self, ms):
        while ms > 0:  # fed in between: this program has not crashed
            self._feed()
            await asyncio.sleep_ms(min(ms, 2000))
            ms -= 2000
        self._feed()

    async def _run(self):
        import random

        back = 100
        fails = 0
        try:
            if self._wifi:
                await self._wifi.first()
            while not self._closed:
                if self._wifi:
                    await self._wifi.up()
                wait = await self._once()
                if wait is None:  # it was up
                    back, fails, wait = 100, 0, 0
                else:
                    fails += 1
                    if self._init:
                        await self.bad_server()
                    # Connected to a WiFi that leads nowhere: some access points need to be left.
                    if self._wifi and not fails % 5:
                        await self._wifi.leave()
                await self.pause(wait + back // 2 + random.getrandbits(16) * back // 131072)
                if fails:
                    back = min(back * 2, self._to)
        except Exception as e:
            self.error = e
            self.log("client ended:", e)
            self._feed(True)
            self._wake()

    # One attempt, and the link if there is one. None if it was up, else the ms to stay away longer.
    async def _once(self):
        self._gone.clear()
        self.reason = None
        link = None
        try:
            stream = (await asyncio.wait_for_ms(asyncio.open_connection(*self._addr), self._to))[0]
            link = self._link = Link(stream, self._fail)
            hello = self._d.start(link)
            if hello[1]:
                await asyncio.sleep_ms(hello[1])
            link.send(hello[0])
            self._tasks = (
                asyncio.create_task(self._read(link)),
                asyncio.create_task(self._tick(link)),
            )
            await self._gone.wait()
        except (OSError, asyncio.TimeoutError) as e:
            self._fail(e)
        finally:
            for t in self._tasks:
                t.cancel()
            self._tasks = ()
            if link:
                self._d.stop()
                self._link = None
                link.close()
            up = self._ok
            self._down()
            self.log("no link:", self.reason)
            gc.collect()
        return None if up else link.wait if link else 0

    # Ends the present link, whoever calls it.
    def _fail(self, reason):
        if not self._gone.is_set():
            self.reason = reason
            self._gone.set()

    async def _read(self, link):
        try:
            while True:
                data = await link.stream.read(256)
                if not data:
                    raise OSError("closed by the server")
                self._d.feed(data)
        except Exception as e:
            if not isinstance(e, (OSError, ValueError)):
                sys.print_exception(e)
            self._fail(e)

    async def _tick(self, link):
        try:
            while True:
                self._feed()
                if self._wifi and not self._wifi.sta.isconnected():
                    raise OSError("no WiFi")
                # Not too long: the watchdog waits.
                await asyncio.sleep_ms(min(2000, max(1, self._d.tick(time.ticks_ms()))))
        except Exception as e:
            self._fail(e)
