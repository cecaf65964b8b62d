# What a keyed link costs a board in pure Python (docs/protocol.md, 15.6), beside an open one:
#
#     micropython crates/bowline-secure/benches/keyed.py crates/bowline-secure/tests/golden/keyed.json
#
# It makes the test vectors first, so that what is measured is the real thing.

import hashlib
import json
import os
import sys
import time

sha256 = hashlib.sha256


def pads(key):
    key = key + bytes(64 - len(key))
    return bytes(byte ^ 0x36 for byte in key), bytes(byte ^ 0x5C for byte in key)


def mac(pads, *parts):
    inner = sha256(pads[0])
    for part in parts:
        inner.update(part)
    outer = sha256(pads[1])
    outer.update(inner.digest())
    return outer.digest()


def link(key, head, nonce, answer):
    """Six HMACs: the opening, the server's tag, and the keys of the records."""
    extracted = pads(mac(pads(bytes(32)), key))
    auth = pads(mac(extracted, b"bowline n keyed auth\x01"))
    opening = head + nonce
    opening += mac(auth, b"d", opening)[:16]
    digest = sha256(opening).digest()
    tag = mac(auth, b"s", digest, answer[:-16])[:16]
    info = b"bowline n keyed keys" + digest + answer
    device = mac(extracted, info, b"\x01")
    server = mac(extracted, device, info, b"\x02")
    return opening, tag, device, server


def open_record(body):
    return len(body).to_bytes(2, "big") + body


def keyed_record(pads, counter, body):
    return (len(body) + 16).to_bytes(2, "big") + body + mac(pads, counter.to_bytes(8, "big"), body)[:16]


def body_of(pads, counter, record):
    body = record[2:-16]
    return body if mac(pads, counter.to_bytes(8, "big"), body)[:16] == record[-16:] else None


def micros(count, work):
    """The median of nine rounds, for one call."""
    rounds = []
    for _ in range(9):
        start = time.ticks_us()
        for counter in range(count):
            work(counter)
        rounds.append(time.ticks_diff(time.ticks_us(), start) / count)
    return sorted(rounds)[4]


with open(sys.argv[1]) as file:
    golden = json.load(file)


def vector(name):
    text = golden[name]
    return bytes(int(text[at : at + 2], 16) for at in range(0, len(text), 2))


head = vector("opening")[:15]
answer = vector("answer")
made = link(vector("key"), head, vector("device-nonce"), answer)
assert made == (vector("opening"), answer[-16:], vector("device-key"), vector("server-key"))
sending, receiving = pads(made[2]), pads(made[3])
for counter in range(2):
    assert keyed_record(sending, counter, vector("device-body-%d" % counter)) == vector("device-record-%d" % counter)
    assert body_of(receiving, counter, vector("server-record-%d" % counter)) == vector("server-body-%d" % counter)
    assert body_of(receiving, counter + 1, vector("server-record-%d" % counter)) is None

for size in (32, 256, 1024):
    body = bytes(size)
    record = keyed_record(sending, 5, body)
    print(
        "%5d bytes: open record %5.1f us, keyed record %5.1f us, its check %5.1f us"
        % (
            size,
            micros(2000, lambda counter: open_record(body)),
            micros(2000, lambda counter: keyed_record(sending, counter, body)),
            micros(2000, lambda counter: body_of(sending, 5, record)),
        )
    )
print("beginning of a link: %.0f us" % micros(500, lambda _: link(vector("key"), head, os.urandom(16), answer)))
