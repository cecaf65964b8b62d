# Dialect H: lines with ids of 8 bits, one qos message in flight (docs/protocol.md, chapters 2, 3, 6).
# SPDX-License-Identifier: MIT OR Apache-2.0

import time
from array import array
from binascii import hexlify, unhexlify

try:
    from binascii import crc32
except ImportError:
    from .crc import crc32

LINE = 16384
SEEN = 32  # accepted messages that are remembered
AHEAD = 32  # ids that best effort may be ahead of the message in flight


class Headers:
    def __init__(self, client, body, key):
        if key:
            raise ValueError("a key: dialect N only")
        self.c = client
        self.link = None
        self._ids = bytearray(SEEN)
        self._crcs = array("I", [0] * SEEN)
        self._n = 0  # how many are remembered; the last one is at 0
        self._owed = None  # the id that is acknowledged when the message was handled
        got = client.outbox.got if client.cursor else 0
        if got:
            self._n = 1
            self._ids[0] = got >> 32 & 0xFF
            self._crcs[0] = got & 0xFFFFFFFF

    def start(self, link):
        self.link = link
        self._buf = b""
        self._bad = 0
        self._first = True  # no message has come yet
        self._zero = False  # that with id 0 was accepted on this link
        self._park = None  # (id, CRC, header, payload): not acknowledged before there is room
        self._skip = None  # a message that was refused: those behind it are, too, until it comes
        self._fly = 0  # seq in flight on this link
        self._flown = 0  # its id
        self._here = False  # the message that is owed its ACK came on this link
        link.send(b"2c00ff" + self.c._id + b"\n")

    def check(self, header, data):
        if header is not None and not isinstance(header, (bytes, bytearray)):
            raise TypeError("header: bytes or None")
        if header and len(header) > 255:
            raise ValueError("header over 255 bytes")

    def tick(self, now):
        c = self.c
        silent = time.ticks_diff(now, self.link.heard)
        if silent > (c._to if c._ok else 2 * c._to):
            raise OSError("silence")
        if self._fly and time.ticks_diff(now, self._at) >= c._to // 2:
            self._send_head()
        due = c._to // 4 - time.ticks_diff(now, self.link.wrote)
        if due <= 0:
            self.link.send(b"\n")
            due = c._to // 4
        return due

    # ---- sending ----

    def _message(self, mid, flags, header, data):
        h = header or b""
        return b"%02x%02x%02x%s%s\n" % (mid, len(h), flags, hexlify(h), data)

    def pump(self):
        ob = self.c.outbox
        if not self._fly and ob.last > ob.acked:
            self._fly = ob.acked + 1
            self._send_head()

    def _send_head(self):
        self._at = time.ticks_ms()
        mid, header, data = self.c.outbox.get(self._fly)
        self._flown = mid
        self.link.send(self._message(mid, 1, header, data))

    async def best(self, header, data):
        c = self.c
        ob = c.outbox
        link = self.link
        # A receiver forgets everything when it sees id 0, so that one must arrive before others.
        while ob.mid == 0 and ob.last > ob.acked or (
            self._fly and (ob.mid + 1 - self._flown) % 255 > AHEAD
        ):
            await c.wait()
        if ob.mid < 0 or not ob.spare:
            await c.put(header, data)
            return True
        ob.spare -= ob.durable
        line = self._message(ob.take(), 0, header, data)
        while link is self.link and link.busy:
            await c.wait()
        if link is None or link is not self.link:
            return False
        link.send(line)
        return c.reason is None

    # ---- receiving ----

    def feed(self, data):
        c = self.c
        if not c._ok:
            c.state(True)
            self.pump()
        lines = (self._buf + data).split(b"\n") if self._buf else data.split(b"\n")
        self._buf = lines.pop()
        if len(self._buf) > LINE:
            raise ValueError("endless line")
        for line in lines:
            if line and not self._line(line):
                self._bad += 1
                c.bad += 1
                c.log("bad", line)
                if self._bad == 16:
                    raise ValueError("no dialect H")

    # False if it is none of the dialect.
    def _line(self, line):
        c = self.c
        try:
            mid, n, flags = unhexlify(line[:6])
        except ValueError:
            return False
        if flags & 0x2C == 0x2C:
            if flags == 0xFF:
                return False
            if self._fly and mid == self._flown:
                seq = self._fly
                self._fly = 0
                # On H the peer knows the last one again, and no other: so the outbox must know it, too.
                c.acked(seq, True)
                self.pump()
            return True
        end = 6 + 2 * n
        first = self._first
        self._first = False
        self._expire(mid)
        header = None
        data = line[end:]
        try:
            if n:
                header = bytearray(unhexlify(line[6:end]))
                if len(header) < n:
                    raise ValueError
        except ValueError:
            data = b"?" + line  # no JSON either: it cannot be read, and is counted as that
        if flags & 1:
            self._qos(mid, crc32(line), header, data, first)
        else:
            if mid == 0 and first:
                self._n = 0
            if len(c._q) >= c.queue:
                c.lost += 1
            else:
                c.deliver(0, 0, header, data)
        return True

    def _qos(self, mid, crc, header, data, first):
        c = self.c
        if self._park and self._park[:2] == (mid, crc):
            return
        if self._is_resend(mid, crc, first):
            if mid == self._owed:
                self._here = True
            else:
                self._ack(mid)
            return
        if self._skip and self._skip[0] != mid and self._skip[1] < 32:
            self._skip[1] += 1
            return
        self._skip = None
        if len(c._q) >= c.queue or self._owed is not None:
            if self._park is None:
                self._park = (mid, crc, header, data)
            else:
                self._skip = [mid, 0]
            return
        self._accept(mid, crc, header, data)

    # Accepted, then remembered, then acknowledged.
    def _accept(self, mid, crc, header, data):
        c = self.c
        wait = c.deliver(0, 1 << 40 | mid << 32 | crc, header, data) and c.cursor
        for i in range(min(self._n, SEEN - 1), 0, -1):
            self._ids[i] = self._ids[i - 1]
            self._crcs[i] = self._crcs[i - 1]
        self._ids[0] = mid
        self._crcs[0] = crc
        self._n = min(self._n + 1, SEEN)
        if mid == 0:
            self._zero = True
        if wait:
            self._owed = mid
            self._here = True
        else:
            self._ack(mid)

    def _ack(self, mid):
        self.link.send(b"%02x002c\n" % mid)

    # The application has taken a message.
    def room(self):
        c = self.c
        if self.link and self._park and len(c._q) < c.queue and self._owed is None:
            p = self._park
            self._park = None
            self._accept(*p)

    # It has come back for the next one.
    def handled(self, m):
        if self.c.cursor and m[1]:
            self.c.outbox.mark(m[1])
            if self.link and self._here:
                self._ack(self._owed)
            self._owed = None
            self._here = False
            self.room()

    # ---- what was accepted (§2.5) ----

    def _is_resend(self, mid, crc, first):
        if mid == 0:
            if self._zero:
                return True
            if first:
                if self._n and self._ids[0] == 0 and self._crcs[0] == crc:
                    self._zero = True
                    return True
                self._n = 0  # the sender has started anew, and so have its ids
                return False
        for i in range(self._n):
            if self._ids[i] == mid and self._crcs[i] == crc:
                return True
        return False

    # What is a quarter of the ids away is over.
    def _expire(self, mid):
        for i in range(self._n):
            if 64 <= (mid - self._ids[i]) % 255 <= 191:
                self._n = i  # those behind it are older still
                return
