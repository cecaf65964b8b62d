# The keyed mode of dialect N (docs/protocol.md, 15.6): both ends and every record are proved with the
# device's key, by HMAC-SHA256. Nothing is encrypted.
# SPDX-License-Identifier: MIT OR Apache-2.0

import os
from hashlib import sha256

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


# HMAC-SHA256 with its two blocks made once for each key.
class Hmac:
    def __init__(self, key):
        self._i = bytes(x ^ 0x36 for x in key) + b"\x36" * (64 - len(key))
        self._o = bytes(x ^ 0x5C for x in key) + b"\x5c" * (64 - len(key))

    def __call__(self, *parts):
        h = sha256(self._i)
        for p in parts:
            h.update(p)
        return sha256(self._o + h.digest()).digest()


# Whether two tags are the same, in a time that does not depend on where they differ.
def same(a, b):
    d = len(a) ^ len(b)
    for x, y in zip(a, b):
        d |= x ^ y
    return not d


def unbase32(text):
    n = bits = 0
    out = bytearray()
    for c in text.upper():
        i = DIGITS.find(c)
        if i < 0:
            raise ValueError("not a key: %s in it" % c)
        n = (n << 5 | i) & 0xFFF
        bits += 5
        if bits >= 8:
            bits -= 8
            out.append(n >> bits & 0xFF)
    return bytes(out)


# `line`: what `bowline key new` prints. `device_id` of it is the only one it is good for.
class Key:
    def __init__(self, line):
        word, number, text, device = line.strip().split(":", 3)
        self.id = int(number)
        raw = unbase32(text)
        key = raw[:32]
        self.device = device.encode()
        if word != "bowline1" or not 1 <= self.id <= 255 or len(text) != 56:
            raise ValueError("not a key: expected bowline1:NUMBER:56 CHARACTERS:ID")
        sum = sha256(b"bowline1:" + bytes((self.id,)) + key + self.device).digest()
        if sum[:3] != raw[32:]:
            raise ValueError("the key has a typing error, or is another device's")
        self._prk = Hmac(Hmac(bytes(32))(key))
        self._auth = Hmac(self._prk(b"bowline n keyed auth\x01"))

    def opening(self, head, nonce=None):
        o = head + (nonce or os.urandom(16))
        o += self._auth(b"d", o)[:16]
        self._opening = sha256(o).digest()
        return o

    # What seals the records of a link with this answer. ValueError: it is not our server's.
    def answer(self, a):
        if not same(self._auth(b"s", self._opening, a[:-16])[:16], a[-16:]):
            raise ValueError("the answer is not of a server that has our key")
        info = b"bowline n keyed keys" + self._opening + a
        t = self._prk(info, b"\x01")
        return Seal(t, self._prk(t, info, b"\x02"))


class Seal:
    def __init__(self, ours, theirs):
        self._our = Hmac(ours)
        self._their = Hmac(theirs)
        self._sent = self._got = 0

    def seal(self, body):
        tag = self._our(self._sent.to_bytes(8, "big"), body)[:16]
        self._sent += 1
        return tag

    def open(self, body, tag):
        if not same(self._their(self._got.to_bytes(8, "big"), body)[:16], tag):
            raise ValueError("a record that is not of our server")
        self._got += 1
