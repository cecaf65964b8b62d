# Dialect N, the device's side on TCP (docs/protocol.md, chapters 7 to 12, 14, 16).
# SPDX-License-Identifier: MIT OR Apache-2.0

import time

OPEN_MS = 5000  # from the start of a link until it is of use
LONG_MS = 30000  # to stay away from a server that does not want us
MAGIC = b"\x00BWL"
NO_HEADER = b"\xff\xff\xff"


# A number in 1, 2, 4 or 8 bytes (§9.1).
def v(n):
    if n < 64:
        return bytes((n,))
    if n < 1 << 14:
        return (n | 1 << 14).to_bytes(2, "big")
    if n < 1 << 30:
        return (n | 1 << 31).to_bytes(4, "big")
    return (n | 3 << 62).to_bytes(8, "big")


class Native:
    def __init__(self, client, body, key):
        self.c = client
        self.link = None
        self._body = body  # the largest we take
        self._room = max(2 * body, 1024)  # bytes of payloads that may wait to be read
        ob = client.outbox
        self._dur = self._rcv = ob.got if client.cursor else 0
        self._done = self._dur  # up to here everything was handled
        self._state = 0
        self.skipped = 0  # acknowledged in an earlier life and not seen in this one
        self.gaps = 0  # messages the server has dropped by a policy
        self.refused = 0  # messages that the server cannot take, they are too long
        self.forgotten = 0  # times that the server had lost its store
        self._key = None
        if key:
            from .keyed import Key

            self._key = Key(key)

    def start(self, link):
        self.link = link
        self._state = 0  # 0: answer, 1: WELCOME, 2: open
        self._since = time.ticks_ms()
        self._in = bytearray()
        self._max = 128  # the peer's largest body
        self._k = self.c._to // 3
        self._bytes = self._sbytes = 0  # payloads received, and sent, on this link
        self._told = self._said = 0  # message credit and PROCESSED that the peer knows
        self._tb = 0  # byte credit that it knows
        self._seal = None
        c = self.c
        key = self._key
        opening = MAGIC + bytes((1, 3 if key else 0, key.id if key else 0, len(c._id))) + c._id
        link.send(key.opening(opening) if key else opening)
        if not key:
            self._hello()

    def check(self, header, data):
        if header is not None and len(header) != 3:
            raise ValueError("header: three bytes, or None")
        if self._state == 2 and len(data) > self._max - 10:
            raise ValueError("message longer than the server takes")

    def tick(self, now):
        silent = time.ticks_diff(now, self.link.heard)
        if self._state < 2:
            if time.ticks_diff(now, self._since) > OPEN_MS:
                raise OSError("no answer")
            return self._k
        if silent > 3 * self._k:
            raise OSError("silence")
        due = self._k - time.ticks_diff(now, self.link.wrote)
        if due <= 0:
            self._send(b"\x17" + (now & 0xFFFFFFFF).to_bytes(4, "big"))
            due = self._k
        return due

    # ---- sending ----

    def _send(self, body):
        if self._seal:
            body += self._seal.seal(body)
        self.link.send(len(body).to_bytes(2, "big") + body)

    def _hello(self):
        self._send(b"\x01\x01\x00" + v(self.c.outbox.epoch) + v(self._k) + v(self._body))

    # Limits that only grow on a link (§11.2).
    def _credit(self):
        c = self.c
        self._told = self._rcv + max(0, c.queue - len(c._q))
        self._tb = max(self._tb, self._bytes + max(0, self._room - c._held))
        return v(self._told - self._rcv) + v(self._tb)

    def _ack(self):
        body = b"\x14" + v(self._dur) + v(self._rcv - self._dur) + self._credit()
        if self._done > self._said:
            self._said = self._done
            body += b"\x16" + v(self._done)
        self._due = False
        self._send(body)

    # Sends what is stored, as far as the peer's credit goes.
    def pump(self):
        if self._state < 2 or not self.link:
            return
        ob = self.c.outbox
        end = min(ob.last, self._lim)
        while self._sent < end and not self.link.busy:
            body = b""
            while self._sent < end:
                seq = self._sent + 1
                _, header, data = ob.get(seq)
                n = len(data)
                if n > self._max - 10:
                    self.refused += 1
                    frame = b"\x13" + v(seq) + b"\x01\x04"
                    n = 0
                elif self._sbytes + n > self._blim:
                    end = self._sent
                    break
                else:
                    # The last one there is, or may be sent, asks for its ACK.
                    frame = bytes((0x11 if seq == end else 0x10, seq >> 8 & 0xFF, seq & 0xFF))
                    frame += (header or NO_HEADER) + v(n) + data
                if body and len(body) + len(frame) > self._max:
                    break
                body += frame
                self._sent = seq
                self._sbytes += n
            if body:
                self._send(body)

    async def best(self, header, data):
        link = self.link
        frame = b"\x12" + (header or NO_HEADER) + v(len(data)) + data
        if len(frame) > self._max:
            raise ValueError("message longer than the server takes")
        while link and link is self.link and link.busy:
            await self.c.wait()
        if link is None or link is not self.link:
            return False
        self.pump()
        self._send(frame)
        return self.c.reason is None

    # ---- receiving ----

    def feed(self, data):
        buf = self._in
        buf.extend(data)
        i = 0
        if self._state == 0:
            i = self._answer(buf)
            if not i:
                return
        tag = 16 if self._seal else 0
        self._due = False
        while len(buf) - i >= 2:
            n = buf[i] << 8 | buf[i + 1]
            if not tag < n <= max(self._body, 128) + tag:
                self._close(2)
            if len(buf) - i - 2 < n:
                break
            i += 2
            body = bytes(buf[i : i + n - tag])
            if tag:
                self._seal.open(body, buf[i + n - tag : i + n])
            i += n
            self._frames(body)
        if i:
            self._in = buf[i:]
        if self._due:
            self._ack()
        self.pump()

    # How many bytes the answer to the opening had; 0 while it is not whole.
    def _answer(self, buf):
        if len(buf) < 7:
            return 0
        verdict, m = buf[5], buf[6]
        if buf[:4] != MAGIC or verdict and verdict < 0x80:
            raise ValueError("no answer")
        if verdict:
            self._refused(verdict - 0x80)
        if buf[4] != 1 or m != (32 if self._key else 0):
            raise ValueError("no answer")
        if len(buf) < 7 + m:
            return 0
        self._state = 1
        if self._key:
            self._seal = self._key.answer(bytes(buf[: 7 + m]))
            self._hello()
        return 7 + m

    def _u(self):
        b = self._b
        i = self._i
        x = b[i]
        n = 1 << (x >> 6)
        self._i = i + n
        if self._i > len(b):
            raise IndexError
        return x if n == 1 else int.from_bytes(b[i : i + n], "big") & (1 << 8 * n - 2) - 1

    def _bytes_of(self, n):
        i = self._i
        self._i = i + n
        if self._i > len(self._b):
            raise IndexError
        return self._b[i : i + n]

    def _frames(self, body):
        self._b = body
        self._i = 0
        try:
            while self._i < len(body):
                kind = body[self._i]
                self._i += 1
                if kind == 2 and self._state == 1:
                    self._welcome()
                elif self._state == 2 or kind == 0x1F:
                    self._frame(kind)
                else:
                    self._close(2)
        except IndexError:
            self._close(2)
        self._b = None

    def _frame(self, kind):
        c = self.c
        if kind == 0x10 or kind == 0x11:
            x = self._bytes_of(5)
            data = self._bytes_of(self._u())
            want = self._rcv + 1
            seq = want + (((x[0] << 8 | x[1]) - want + 0x8000 & 0xFFFF) - 0x8000)
            if seq < want:
                return  # a takeover can bring it twice
            if seq > want:
                self._close(2)
            self._bytes += len(data)
            if seq > self._told or self._bytes > self._tb:
                self._close(4)
            c.deliver(c.outbox.epoch, seq, None if x[2:] == NO_HEADER else bytearray(x[2:]), data)
            self._came(seq)
        elif kind == 0x12:
            x = self._bytes_of(3)
            data = self._bytes_of(self._u())
            if len(c._q) >= c.queue or c._held + len(data) > self._room:
                c.lost += 1
            else:
                c.deliver(0, 0, None if x == NO_HEADER else bytearray(x), data)
        elif kind == 0x13:
            seq = self._u()
            n = self._u()
            self._bytes_of(1)
            if seq != self._rcv + 1 or not n or seq + n - 1 > self._told:
                self._close(2)
            self.gaps += n
            self._came(seq + n - 1)
        elif kind == 0x14 or kind == 0x15:
            dur = self._u()
            rcv = dur + self._u()
            self._lim = max(self._lim, rcv + self._u())
            self._blim = max(self._blim, self._u())
            if rcv > self._sent:
                self._close(2)
            c.acked(dur)
        elif kind == 0x16:
            self._u()
        elif kind == 0x17:
            self._send(b"\x18" + self._bytes_of(4))
        elif kind == 0x18:
            self._bytes_of(4)
        elif kind == 0x1F:
            self._refused(self._bytes_of(1)[0])
        elif kind >= 0x80:
            self._bytes_of(self._u())
        else:
            self._close(2)

    # Everything up to `seq` has come, and is in the queue if it can be read.
    def _came(self, seq):
        self._rcv = seq
        self._due = True
        self._settle()

    # How far everything is handled. With a cursor that is what is durable, without what has come.
    def _settle(self):
        c = self.c
        epoch = c.outbox.epoch
        seq = self._rcv
        if c._took and c._took[1] and c._took[0] == epoch:
            seq = c._took[1] - 1
        else:
            for m in c._q:
                if m[1] and m[0] == epoch:
                    seq = m[1] - 1
                    break
        if c.cursor:
            if seq > self._dur:
                c.outbox.mark(seq)
                self._dur = seq
        else:
            self._dur = self._rcv
        self._done = seq

    def _welcome(self):
        c = self.c
        ob = c.outbox
        if self._bytes_of(1)[0] < 1:
            self._close(7)
        outcome = self._bytes_of(1)[0]
        self._u()  # features: we have none
        epoch = self._u()
        self._k = self._u()
        self._max = self._u()
        dur = self._u()
        rcv = dur + self._u()
        acked = self._u()
        last = self._u()
        self._lim = rcv + self._u()
        self._blim = self._u()
        if outcome > 2:
            self._close(5)
        if outcome:
            if epoch < ob.epoch or dur or rcv or acked:
                self._close(2)
            if outcome == 2:
                self.forgotten += 1
                c.log("the server had lost its store")
            if epoch > ob.epoch:
                ob.renew(epoch)  # stored before START
                self._dur = self._rcv = self._done = 0
            elif ob.acked or self._rcv:
                self._close(5)  # not the one whose START was lost: something has happened in it
        else:
            if epoch != ob.epoch:
                self._close(2)
            if not c.cursor and acked > self._dur:
                # Acknowledged in an earlier life of ours, that kept it in RAM.
                self.skipped += acked - self._rcv
                self._dur = self._rcv = acked
            if not ob.acked <= dur <= rcv <= ob.last or acked > self._dur or self._rcv > last:
                self._close(5)
        self._sent = rcv
        self._state = 2
        credit = self._credit()
        self._send(
            b"\x03" + v(epoch) + v(self._dur) + v(self._rcv - self._dur)
            + v(dur if not outcome else 0) + v(ob.last) + credit
        )
        c.acked(dur)
        c.state(True)

    # The application has taken a message: is there half of the room more than the server knows of?
    def room(self):
        c = self.c
        if self._state == 2 and self.link:
            n = self._rcv + c.queue - len(c._q)
            b = self._bytes + self._room - c._held
            if (n - self._told) * 2 >= c.queue or (b - self._tb) * 2 >= self._room:
                self._ack()

    # It has come back for the next one.
    def handled(self, m):
        if m[1] and m[0] == self.c.outbox.epoch:
            self._settle()
            if self.link and self._state == 2 and (self.c.cursor or not self.c._q):
                self._ack()

    # ---- the end ----

    # Says why (§16.2), and ends the link.
    def _close(self, code):
        if code in (5, 7):
            self.link.wait = LONG_MS
        self._send(bytes((0x1F, code, 0)))
        raise ValueError("code %d" % code)

    # The same said by the server.
    def _refused(self, code):
        if code in (5, 7, 8, 9):
            self.link.wait = LONG_MS
        raise OSError("code %d from the server" % code)
