# The connection to the server, and what is read and written over it.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio
import errno
import gc
import json
import socket
import sys
import time

gc.collect()  # before what stays: less is scattered


# Runs a callback, or a coroutine in a task of its own. What it raises is shown and harms nobody.
def launch(f, *args):
    try:
        res = f(*args)
        if hasattr(res, "send"):
            asyncio.create_task(res)
    except Exception as e:
        sys.print_exception(e)


# Waits until a socket can be read, or written. What asyncio's streams do, without loading them.
def ready(s, write=False):
    q = asyncio.core._io_queue
    yield q.queue_write(s) if write else q.queue_read(s)


# One connection's life.
class Link:
    def __init__(self, addr, client):
        a = socket.getaddrinfo(addr[0], addr[1], 0, socket.SOCK_STREAM)[0]
        self.s = s = socket.socket(a[0], a[1], a[2])
        self.c = client
        self.pend = None  # what the socket has not taken yet
        self.busy = None  # the task that waits for that
        self.took = 0  # when the socket has taken something, while there is such a task
        self.joined = False  # the connection is there
        self.wrote = self.heard = time.ticks_ms()
        self.wait = 0  # ms to stay away after it
        s.setblocking(False)
        try:
            # Many messages at once must not wait for the TCP ACK of the first.
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (AttributeError, OSError):
            pass
        try:
            s.connect(a[-1])
        except OSError as e:
            if e.errno != errno.EINPROGRESS:
                s.close()
                raise

    # Never blocks: what the socket does not take goes out in a task of its own. So does what comes
    # first, for the connection is not there yet.
    def send(self, data):
        if not self.s:
            return
        self.wrote = time.ticks_ms()
        if not self.busy:
            try:
                n = self.joined and self.s.write(data) or 0
            except OSError as e:
                self.c.fail(e)
                return
            if n == len(data):
                return
            self.pend = data[n:]
            self.took = self.wrote
            self.busy = asyncio.create_task(self._flush())
        else:
            self.pend += data

    async def _flush(self):
        try:
            while self.pend:
                await ready(self.s, True)
                n = self.s.write(self.pend)
                if n:
                    self.pend = self.pend[n:]
                    self.took = self.wrote = time.ticks_ms()
            self.joined = True
            self.busy = None
            self.c.notify()
            if self.c._ok:
                self.c._d.pump()
        except OSError as e:
            self.c.fail(e)

    def close(self):
        if self.busy:
            self.busy.cancel()
        self.s.close()
        self.s = None


class Client:
    # As in the reference; behind the star is what is new. `loop` is not used and may be None.
    def __init__(self, loop, my_id, server, port=9999, ssid="", pw="", timeout=4000,
                 conn_cb=None, conn_cb_args=None, verbose=False, led=None, wdog=False, *,
                 dialect="H", key=None, outbox=None, cursor=False, queue=5, body=512):
        # Before anything else, while the memory is in one piece.
        gc.collect()
        if dialect == "N":
            from .native import Native as Dialect
        elif dialect == "H":
            from .headers import Headers as Dialect
        else:
            raise ValueError("dialect")
        if outbox is None:
            from .queue import Ram

            outbox = Ram()
        gc.collect()
        self._id = my_id.encode() if isinstance(my_id, str) else bytes(my_id)
        self._to = timeout
        self._addr = server, port
        self._ssid = ssid
        self._pw = pw
        self._concb = conn_cb
        self._args = conn_cb_args or ()
        self._verbose = verbose
        self._led = led
        self._feed = None
        if wdog:
            from .wdog import watchdog

            self._feed = watchdog(wdog)
        self.connects = 0  # links that came up
        self.seq = None  # (epoch, seq) of the message that was read last, on N
        self.lost = 0  # best effort that came and found no room
        self.bad = 0  # messages and lines that could not be read
        self.error = None  # what ended the client
        self.reason = None  # why the last link, or attempt, ended
        self._ok = False
        self._init = True  # the server was never there
        self._link = None
        self._tasks = ()  # of the link
        self._q = []  # (epoch, seq, size, header, object)
        self._held = 0  # bytes in it
        self._took = None  # the message that was read last
        self._line = []  # who waits for room in the outbox, in order
        self._news = asyncio.Event()  # whoever waits for something looks when there are
        self.queue = queue
        self.cursor = cursor
        self.outbox = outbox
        self._d = Dialect(self, body, key)
        self._wifi = self._sta_if = None
        try:
            import network

            from .wifi import Wifi

            self._wifi = Wifi(self, network)
            self._sta_if = self._wifi.sta
        except ImportError:
            pass  # a wired board, or a computer
        gc.collect()
        self._task = asyncio.create_task(self._run())

    # ---- what a program uses ----

    # Waits until the server is there.
    def __iter__(self):
        while not self._ok:
            yield from self.wait()

    __await__ = __iter__

    def status(self):
        return self._ok

    __call__ = status

    # (header or None, object)
    async def read(self):
        m = self._took
        if m:
            self._took = None
            try:
                self._d.handled(m)
            except OSError:  # it could not be stored: the next read tries again
                self._took = m
                raise
        while not self._q:
            await self.wait()
        self._took = m = self._q.pop(0)
        self._held -= m[2]
        self.seq = m[:2] if m[0] else None
        self._d.room()
        return m[3:]

    async def readline(self):
        return (await self.read())[1]

    # qos: returns when the server has it. Otherwise when it was sent; False if the link broke then.
    async def write(self, header, buf, qos=True):
        if qos:
            await self._arrived(await self.post(header, buf))
            return True
        data = self._check(header, buf)
        await self
        return await self._d.best(header, data)

    async def writeline(self, buf, qos=True):
        return await self.write(None, buf, qos)

    # Returns when the message is in the outbox, in the file if that is one: it will arrive.
    async def post(self, header, buf):
        return await self.put(header, self._check(header, buf))

    # Waits until everything has arrived that was posted before.
    async def flush(self):
        ob = self.outbox
        await self._arrived(ob.done + ob.last - ob.acked)

    # Ends the client; stops a watchdog that can be stopped.
    def close(self):
        if not self.error:
            self._end(OSError("closed"))
            self._drop()
            self.outbox.close()
            try:
                self._task.cancel()
            except RuntimeError:
                pass  # called by a callback of that very task, which ends by itself

    # ---- to be overridden ----

    # Awaited at the start while there is no WiFi (on an ESP8266 the network that it has stored is tried
    # first). What it raises ends the client.
    async def bad_wifi(self):
        if not self._ssid:
            raise OSError("No initial WiFi connection.")
        while not await self._wifi.join():
            pass

    # Awaited after every failed attempt until the server was there once. What it raises ends the client.
    async def bad_server(self):
        pass

    def log(self, *args):
        if self._verbose:
            print(*args)

    # ---- what the dialects use ----

    # Wakes all who wait, and only those.
    def notify(self):
        self._news.set()
        self._news.clear()

    # Returns when something may have changed.
    async def wait(self):
        if self.error:
            raise self.error
        await self._news.wait()

    # Ends the present link, whoever calls it.
    def fail(self, reason):
        if self.reason is None:
            self.reason = reason
            self.notify()

    # The link is of use from here on, or not any more.
    def state(self, ok):
        if ok != self._ok:
            self._ok = ok
            if ok:
                self._init = False
                self.connects += 1
            self.notify()
            if self._concb:
                launch(self._concb, ok, *self._args)

    # A message of the server, for the application. False if it cannot be read: that is the end of it.
    def deliver(self, epoch, seq, header, data):
        try:
            try:
                obj = json.loads(data.decode()) if data else None
            except MemoryError:
                gc.collect()
                obj = json.loads(data.decode())
        except Exception:
            self.bad += 1
            self.log("bad", data)
            return False
        self._q.append((epoch, seq, len(data), header, obj))
        self._held += len(data)
        self.notify()
        return True

    # All up to `seq` have arrived. `now`: that must be known after a restart before more is sent.
    def acked(self, seq, now=False):
        if seq > self.outbox.acked:
            self.outbox.ack(seq, now)
            self.notify()

    # Into the outbox, in order. Returns how many must have arrived for this one to have.
    async def put(self, header, data):
        ob = self.outbox
        if self.error:
            raise self.error
        if self._line or not ob.put(header, data):
            me = object()
            self._line.append(me)
            try:
                while self._line[0] is not me or not ob.put(header, data):
                    await self.wait()
            finally:
                self._line.remove(me)
                self.notify()
        if self._ok:
            self._d.pump()
        return ob.done + ob.last - ob.acked

    # ---- inside ----

    def _check(self, header, buf):
        data = b"" if buf is None else json.dumps(buf).encode()
        self._d.check(header, data)
        return data

    async def _arrived(self, n):
        while self.outbox.done < n:
            await self.wait()

    def _end(self, error):
        self.error = error
        self.notify()
        if self._feed:
            self._feed(True)
            self._feed = None

    # Sleeps. The watchdog is fed: this program has not crashed.
    async def pause(self, ms):
        while ms > 0:
            if self._feed:
                self._feed()
            await asyncio.sleep_ms(min(ms, 2000))
            ms -= 2000

    # Clears up after it. The tasks go before the socket: that must not be polled any more.
    def _drop(self):
        for t in self._tasks:
            try:
                t.cancel()
            except RuntimeError:
                pass  # one of them closes the client
        self._tasks = ()
        if self._link:
            self._d.link = None
            self._link.close()
            self._link = None
        self.state(False)

    async def _run(self):
        import random

        wifi = self._wifi
        back = 100
        fails = 0
        try:
            if wifi:
                await wifi.first()
            while not self.error:
                if wifi:
                    await wifi.up()
                self.reason = link = None
                try:
                    self._link = link = Link(self._addr, self)
                    self._d.start(link)
                    self._tasks = (
                        asyncio.create_task(self._read(link)),
                        asyncio.create_task(self._tick(link)),
                    )
                    while self.reason is None:
                        await self.wait()
                except (OSError, MemoryError) as e:
                    self.fail(e)
                up = self._ok
                self._drop()
                self.log("no link:", self.reason)
                gc.collect()
                if up:
                    fails = 0
                    back = 100
                else:
                    fails += 1
                    if self._init:
                        await self.bad_server()
                    # Connected to a WiFi that leads nowhere: some access points have to be left.
                    if wifi and not fails % 5:
                        await wifi.leave()
                wait = link.wait if link else 0
                await self.pause(wait + (back + random.getrandbits(16) * back // 65536) // 2)
                if not up:
                    back = min(back * 2, self._to)
        except Exception as e:
            if not self.error:
                self.log("ended:", e)
                self._drop()
                self._end(e)

    async def _read(self, link):
        led = self._led
        try:
            while True:
                await ready(link.s)
                data = link.s.read(128)
                if data is None:
                    continue
                if not data:
                    raise OSError("closed")
                link.heard = time.ticks_ms()
                if led is not None:
                    led.toggle() if hasattr(led, "toggle") else led(not led())
                self._d.feed(data)
        except Exception as e:
            if not isinstance(e, (OSError, ValueError)):
                sys.print_exception(e)
            self.fail(e)

    async def _tick(self, link):
        try:
            while True:
                now = time.ticks_ms()
                if link.busy and time.ticks_diff(now, link.took) > 2 * self._to:
                    raise OSError("the server takes nothing")
                if self._wifi and not self._wifi.sta.isconnected():
                    raise OSError("no WiFi")
                # Not for long: the watchdog waits.
                await self.pause(max(1, min(2000, self._d.tick(now))))
        except Exception as e:
            self.fail(e)
