# Bowline test device: everything the dialects H and U have in common.
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Written from the description of the wire, as a second opinion on it: it behaves as the library
# on boards in the field does, weaknesses included, so that a test sees what such a board would
# see. Runs on the Unix port of MicroPython (tried with 1.29), no dependencies.
#
# A dialect is a subclass of Device with
#   BEST_EFFORT_QUEUES            whether `be` waits its turn behind qos messages
#   login()                       the bytes of the login line
#   text(rest)                    what of a command's rest goes out; ValueError if nothing can
#   frame(mid, qos, header, text) the bytes of one message
#   line(line)                    one received line, never empty, without its newline
#   command(word, rest)           commands of its own; False if unknown

import asyncio
import errno
import socket
import struct
import sys

LOGIN_PAUSE_MS = 50  # boards wait this long: an old server starts its reader late
RECONNECT_MS = 200  # boards take seconds over their WiFi; tests need not
MAX_LINE = 65536  # a peer that never ends its line must not eat our memory


def say(*words):
    # One event line, as UTF-8 (dialects check what they pass on). Not buffered.
    line = b" ".join(w if isinstance(w, bytes) else str(w).encode() for w in words)
    sys.stdout.buffer.write(line + b"\n")


def reason_of(e):
    if isinstance(e, asyncio.TimeoutError):
        return "timeout"
    if isinstance(e, OSError) and e.errno is not None:
        return errno.errorcode.get(e.errno, str(e.errno))
    return str(e) or type(e).__name__


class Closed(Exception):
    pass


class Seen:
    # Which ids came already: a map of 256 bits. To be ready for the next lap of the ids, a
    # board forgets, with every id, the eight that are half a lap away. Eight, not one: id 0
    # comes once only, so nothing would ever make room for a second 128.
    def __init__(self):
        self.ids = set()

    def is_new(self, mid):
        if mid == 0:  # only a sender that has just started uses 0
            self.ids = set()
        new = mid not in self.ids
        self.ids.add(mid)
        opposite = (mid ^ 0x80) & ~7
        for i in range(opposite, opposite + 8):
            self.ids.discard(i)
        return new


class Flight:
    # A qos message between its first write and its ACK.
    def __init__(self, number, frame):
        self.number = number
        self.frame = frame
        self.acked = False
        self.nudge = asyncio.Event()  # acknowledged, or there is a new link to send it on


class Job:
    def __init__(self, number, header, text):
        self.number = number  # of a qos command; None: best effort
        self.header = header
        self.text = text


class Device:
    def __init__(self, host, port, ident, timeout):
        self.host = host
        self.port = port
        self.ident = ident
        self.timeout = timeout
        self.up = asyncio.Event()  # the first byte of this link was read
        self.wrote = asyncio.Event()  # restarts the keepalive's clock
        self.stream = None
        self.logged_in = False
        self.link_task = None
        self.next_qos = 1
        self.mute_acks = 0
        self.start_fresh()

    # ---- what a reboot forgets ----

    def start_fresh(self):
        self.mid = None
        self.seen = Seen()
        self.jobs = []
        self.job_came = asyncio.Event()
        self.flights = {}  # by message id
        self.tasks = [asyncio.create_task(self.worker())]

    def reboot(self):
        for t in self.tasks:
            t.cancel()
        numbers = [f.number for f in self.flights.values()]
        numbers += [j.number for j in self.jobs if j.number is not None]
        for n in sorted(numbers):
            say("lost", n)
        self.start_fresh()
        self.cut("reboot")

    # ---- sending ----

    def take_id(self):
        # 0 once, then 1 to 255 round and round
        self.mid = 0 if self.mid is None else self.mid % 255 + 1
        return self.mid

    def number(self):
        n = self.next_qos
        self.next_qos += 1
        return n

    async def write(self, data):
        # False: the link is gone, or on its way out. Bound to the link of the call: after the
        # wait for the lock there may be another one, which has not even logged in.
        stream = self.stream
        async with self.lock:
            if stream is None or stream is not self.stream or not self.logged_in:
                return False
            try:
                stream.write(data)
                await asyncio.wait_for_ms(stream.drain(), self.timeout)
            except (OSError, asyncio.TimeoutError) as e:
                if self.stream is stream:
                    self.cut(reason_of(e))
                return False
            self.wrote.set()
            return True

    async def worker(self):
        # In order, and one qos message in flight.
        while True:
            while not self.jobs:
                self.job_came.clear()
                await self.job_came.wait()
            job = self.jobs.pop(0)
            if job.number is None:
                await self.best_effort(self.take_id(), job)
            else:
                await self.qos(self.take_id(), job)

    def enqueue(self, job):
        self.jobs.append(job)
        self.job_came.set()

    async def best_effort(self, mid, job):
        frame = self.frame(mid, False, job.header, job.text)
        while True:
            await self.up.wait()
            if await self.write(frame):
                say("sent")
                return
            await asyncio.sleep_ms(20)

    def qos(self, mid, job):
        # Not a coroutine itself: in flight from the call on, so that a reboot can count it.
        flight = Flight(job.number, self.frame(mid, True, job.header, job.text))
        self.flights[mid] = flight
        return self.fly(flight)

    async def fly(self, flight):
        while not flight.acked:
            await self.up.wait()
            flight.nudge.clear()
            if await self.write(flight.frame) and not flight.acked:
                try:
                    await asyncio.wait_for_ms(flight.nudge.wait(), self.timeout // 2)
                except asyncio.TimeoutError:
                    pass
            elif not flight.acked:
                await asyncio.sleep_ms(20)

    # ---- receiving ----

    def got_ack(self, mid):
        # One without a flight is the answer to a resend, or (U) to a best-effort message.
        flight = self.flights.pop(mid, None)
        if flight is not None:
            flight.acked = True
            flight.nudge.set()
            say("acked", flight.number)

    async def got_message(self, mid, header, text, ack):
        # `ack`: the bytes that acknowledge it, None if it asks for none.
        new = self.seen.is_new(mid)
        if new:
            say("got", header or b"-", text)
        if ack is not None:
            if self.mute_acks:
                self.mute_acks -= 1
            elif not await self.write(ack):
                raise Closed("ack not written")
        if not new:
            say("dup", mid)

    # ---- the link ----

    async def keepalive(self):
        while True:
            self.wrote.clear()
            try:
                await asyncio.wait_for_ms(self.wrote.wait(), self.timeout // 4)
            except asyncio.TimeoutError:
                await self.write(b"\n")

    async def one_link(self):
        keepalive = None
        self.logged_in = False
        # Two tasks in one drain() would send bytes twice. New with each link: a writer stuck on
        # the last one must not hold up this login.
        self.lock = asyncio.Lock()
        try:
            reader, stream = await asyncio.wait_for_ms(
                asyncio.open_connection(self.host, self.port), self.timeout
            )
            self.stream = stream
            await asyncio.sleep_ms(LOGIN_PAUSE_MS)
            # Not through write(): its failure is this function's to report.
            async with self.lock:
                stream.write(self.login())
                await asyncio.wait_for_ms(stream.drain(), self.timeout)
            self.logged_in = True
            keepalive = asyncio.create_task(self.keepalive())
            rest = b""  # of this link only: half a line dies with it
            while True:
                data = await asyncio.wait_for_ms(reader.read(1024), self.timeout)
                if not data:
                    raise Closed("closed")
                if not self.up.is_set():
                    say("up")
                    self.came_up = True
                    self.up.set()
                    for f in self.flights.values():
                        f.nudge.set()
                lines = (rest + data).split(b"\n")
                rest = lines.pop()
                for line in lines:
                    if line:
                        await self.line(line)
                if len(rest) > MAX_LINE:
                    raise Closed("endless line")
        finally:
            self.up.clear()
            if keepalive:
                keepalive.cancel()
            if self.stream:
                stream = self.stream
                self.stream = None
                stream.close()
                await stream.wait_closed()

    async def run(self):
        last = None
        while True:
            self.came_up = False
            self.cut_reason = None
            self.link_task = asyncio.create_task(self.one_link())
            try:
                await self.link_task  # never returns, only raises
            except asyncio.CancelledError:
                if self.cut_reason is None:
                    raise
                reason = self.cut_reason
            except (OSError, asyncio.TimeoutError, Closed) as e:
                reason = self.cut_reason or reason_of(e)
            if self.came_up:
                say("down", reason)
                last = None
            elif reason != last:  # five lines a second about a stopped server help nobody
                say("refused", reason)
                last = reason
            await asyncio.sleep_ms(RECONNECT_MS)

    def cut(self, reason, abort=False):
        # Ends the present link.
        if self.stream is None:
            return
        self.cut_reason = reason
        if abort:
            # Linger zero: the peer gets a reset and no tidy end of stream, as from a board
            # that lost its power and whose next life knows nothing of the old connection.
            self.stream.s.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        # A task cannot cancel itself; the link's own notices by the write that failed.
        if asyncio.current_task() is not self.link_task:
            self.link_task.cancel()

    def tear(self):
        # Leaves half of a message behind, which the next link must not be glued to.
        for flight in self.flights.values():
            try:
                self.stream.s.send(flight.frame[: len(flight.frame) // 2])
            except (AttributeError, OSError):
                pass  # no link, or no room: then it is a plain end
            break
        self.cut("tear")

    # ---- commands ----

    def spawn(self, coro):
        self.tasks = [t for t in self.tasks if not t.done()]
        self.tasks.append(asyncio.create_task(coro))

    def do(self, word, rest):
        if word == "qos":
            text = self.text(rest)  # first: a refused command takes no number
            self.enqueue(Job(self.number(), None, text))
        elif word == "be":
            job = Job(None, None, self.text(rest))
            if self.BEST_EFFORT_QUEUES:
                self.enqueue(job)
            else:
                self.spawn(self.best_effort(self.take_id(), job))
        elif word == "drop":
            self.cut("drop", abort=True)
        elif word == "tear":
            self.tear()
        elif word == "reboot":
            self.reboot()
        elif word == "noack":
            self.mute_acks = int(rest)
        elif not self.command(word, rest):
            raise ValueError("unknown command " + word)

    async def commands(self):
        # readline() blocks from a line's first byte to its last: write whole lines.
        stdin = asyncio.StreamReader(sys.stdin.buffer)
        while True:
            line = await stdin.readline()
            if not line:  # whoever drove us is gone
                return
            try:
                word, _, rest = line.decode().strip().partition(" ")
                if word == "quit":
                    return
                if word:
                    self.do(word, rest.strip())
            except (ValueError, UnicodeError) as e:
                say("error", reason_of(e))


def die(loop, context):
    # A device that limps on after a bug of its own would make a test pass or hang.
    sys.print_exception(context["exception"], sys.stderr)
    say("error", "bug", reason_of(context["exception"]))
    sys.exit(1)


async def serve(device_class, args):
    host, port, ident, timeout = args
    asyncio.get_event_loop().set_exception_handler(die)
    device = device_class(host, int(port), ident, int(timeout))
    asyncio.create_task(device.run())
    await device.commands()
    if device.stream:
        device.stream.s.close()


def main(device_class):
    if len(sys.argv) != 5:
        print("usage: micropython", sys.argv[0], "HOST PORT ID TIMEOUT_MS", file=sys.stderr)
        sys.exit(2)
    asyncio.run(serve(device_class, sys.argv[1:]))
