# Messages that wait in a file on the flash, and what both ends must know of each other after a
# power cut.
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Two files, NAME.0 and NAME.1, of which one is in use: a log, to which is only added. When it is
# full, what still waits is copied into the other one, which is in use from its last byte on. So
# no file is ever renamed, removed or changed in its middle, and any file system will do.
#
# A record: kind 1, length 2, that many bytes, CRC-32 of all that 4. The first of a file is B, what
# waited when it was begun follows, then C. A file without C was never in use.
#
#   B  generation 4, epoch 8, acknowledged 8, received 8 (as the dialect counts it), last id + 1 2
#   M  id 1, flag 1, header 3 if the flag says so, payload
#   A  acknowledged 8
#   R  received 8
#   C  generation 4
#
# Messages have the seqs behind what B says is acknowledged, one after the other.

import struct

try:
    from binascii import crc32
except ImportError:
    from .crc import crc32

BASE = ">IQQQH"
SKIP = 6  # ids that best effort may have taken since the last message


class Outbox:
    durable = True

    # `size`: most bytes of each of the two files. Half of it may wait.
    def __init__(self, name="bowline", size=16384):
        self._name = name
        self._size = size
        self.done = 0
        self.spare = 0
        self._f = None
        self._gen = 0
        self.damaged = False  # there was one, and nothing of it could be read
        self._dirty = True  # what is at the end of the file is not known: no more may be added
        best = None
        for n in (0, 1):
            self._n = n
            gen = self._load()
            if gen is not None and (best is None or gen > best):
                best = gen
                at = n
        if best is None:
            # The second file is begun when the first one is whole. So there was an outbox, and it is lost.
            self.damaged = self._f is not None
            self.close()
            self._n = 1
            self.epoch = self.acked = self.last = self.got = 0
            self.mid = -1
            self._head = self._end = self._live = self._noted = 0
        else:
            self._n = at
            self._load()
            self.mid = (self.mid + SKIP - 1) % 255 + 1 if self.mid >= 0 else -1
        self._next(self.acked + 1)
        try:
            self._turn_over()
        except OSError:
            self.close()
            raise

    # ---- what the client uses ----

    def take(self):
        self.mid = 0 if self.mid < 0 else self.mid % 255 + 1
        return self.mid

    def put(self, header, data):
        if header is not None and len(header) != 3:
            raise ValueError("header: three bytes, or None")
        n = 9 + (3 if header else 0) + len(data)
        if 2 * n > self._size - 80:
            raise ValueError("message longer than half of the outbox")
        if 2 * (self._live + n) > self._size - 80:
            return False
        mid = self.mid
        try:
            self._add(b"M", bytes((self.take(), 1 if header else 0)) + (header or b"") + data)
        except OSError:
            self.mid = mid
            raise
        self._live += n
        self.last += 1
        self.spare = SKIP
        return True

    def get(self, seq):
        if seq < self._seq:
            self._next(self.acked + 1)
        while True:
            kind, body = self._at(self._pos)
            if kind == b"M":
                if seq == self._seq:
                    break
                self._seq += 1
            self._pos += 7 + len(body)
        end = 5 if body[1] else 2
        return body[0], bytearray(body[2:5]) if body[1] else None, body[end:]

    def ack(self, seq, now=False):
        while self.acked < seq:
            kind, n = self._kind(self._head)
            self._head += 7 + n
            if kind == b"M":
                self.acked += 1
                self.done += 1
                self._live -= 7 + n
        if self._seq <= self.acked:
            self._next(self.acked + 1)
        # Otherwise it is written down together with the next message.
        if now and self.acked < self.last:
            try:
                self._add()
            except OSError:
                pass  # at the next one; a power cut until then doubles a message

    # OSError: nothing has changed.
    def renew(self, epoch):
        old = self.epoch, self.acked, self.last, self.got
        self.epoch = epoch
        self.last -= self.acked
        self.acked = self.got = 0
        try:
            self._turn_over()
        except OSError:
            self.epoch, self.acked, self.last, self.got = old
            raise
        finally:
            self._next(self.acked + 1)

    def mark(self, got):
        self._add(b"R", struct.pack(">Q", got))
        self.got = got

    def close(self):
        f = self._f
        self._f = None
        if f:
            f.close()

    # ---- the files ----

    # The next message to be read is `seq`, and the first of those that wait begins at `_head`.
    def _next(self, seq):
        self._seq = seq
        self._pos = self._head

    def _kind(self, pos):
        self._f.seek(pos)
        h = self._f.read(3)
        return h[:1], h[1] << 8 | h[2]

    def _at(self, pos):
        kind, n = self._kind(pos)
        return kind, self._f.read(n)

    def _write(self, f, kind, body):
        h = kind + len(body).to_bytes(2, "big")
        crc = crc32(body, crc32(h))
        for part in (h, body, crc.to_bytes(4, "big")):
            if f.write(part) != len(part):
                raise OSError(28)  # ENOSPC
        return 7 + len(body)

    # Adds a record, and what was acknowledged; both are on the flash on return. OSError: they may be or
    # not, and nothing is added behind them.
    def _add(self, kind=None, body=b""):
        if self._dirty or self._end + 22 + len(body) > self._size:
            self._turn_over()
        self._dirty = True
        f = self._f
        end = self._end
        f.seek(end)
        if self._noted < self.acked:
            end += self._write(f, b"A", struct.pack(">Q", self.acked))
        if kind:
            end += self._write(f, kind, body)
        f.flush()
        self._end = end
        self._noted = self.acked
        self._dirty = False

    # Goes on in the other file.
    def _turn_over(self):
        other = 1 - self._n
        f = open("%s.%d" % (self._name, other), "w+b")
        try:
            end = self._write(f, b"B", struct.pack(
                BASE, self._gen + 1, self.epoch, self.acked, self.got, self.mid + 1))
            head = end
            pos = self._head
            left = self.last - self.acked
            while left:
                kind, body = self._at(pos)
                pos += 7 + len(body)
                if kind == b"M":
                    end += self._write(f, b"M", body)
                    left -= 1
            end += self._write(f, b"C", struct.pack(">I", self._gen + 1))
            f.flush()
        except OSError:
            f.close()
            raise
        if self._f:
            self._f.close()
        self._f = f
        self._n = other
        self._gen += 1
        # Where the next to be read was, in the new file.
        self._head = head
        self._end = end
        self._noted = self.acked
        self._dirty = False
        self._next(self.acked + 1)

    # Reads the file: everything about it is known then, if it was ever in use. Returns its generation.
    def _load(self):
        self.close()
        try:
            self._f = open("%s.%d" % (self._name, self._n), "r+b")
        except OSError:
            return None
        gen = None
        pos = 0
        while True:
            h = self._f.read(3)
            if len(h) < 3:
                break
            n = h[1] << 8 | h[2]
            if n > self._size:
                break
            body = self._f.read(n)
            crc = self._f.read(4)
            if len(crc) < 4 or crc32(body, crc32(h)) != int.from_bytes(crc, "big"):
                break
            kind = h[:1]
            if not pos:
                if kind != b"B" or n != struct.calcsize(BASE):
                    break
                first, self.epoch, self.acked, self.got, mid = struct.unpack(BASE, body)
                self.mid = mid - 1
                self.last = self.acked
                self._live = 0
                acked = self.acked
                self._head = 7 + n
            elif kind == b"M":
                self.last += 1
                self.mid = body[0]
                self._live += 7 + n
            elif kind == b"A":
                acked = struct.unpack(">Q", body)[0]
            elif kind == b"R":
                self.got = struct.unpack(">Q", body)[0]
            elif kind == b"C":
                gen = first
            pos += 7 + n
        if gen is not None:
            self._end = pos
            self._gen = gen
            self._noted = acked
            while self.acked < min(acked, self.last):
                kind, n = self._kind(self._head)
                self._head += 7 + n
                if kind == b"M":
                    self.acked += 1
                    self._live -= 7 + n
        return gen
