# The keyed login against the test vectors of the protocol (docs/protocol.md, 15.6).
# SPDX-License-Identifier: MIT OR Apache-2.0

import sys
from binascii import unhexlify as u

sys.path.insert(0, "../../../../clients/micropython")

from bowline.keyed import Key

LINE = "bowline1:1:AAAQEAYEAUDAOCAJBIFQYDIOB4IBCEQTCQKRMFYYDENBWHA5DYPYW24W:kitchen"
HEAD = u("0042574c010301076b69746368656e")
NONCE = u("909192939495969798999a9b9c9d9e9f")
ANSWER = u("0042574c010020a0a1a2a3a4a5a6a7a8a9aaabacadaeafe412c590475a9fd069a49de55296ea38")


def refuses(f, *args):
    try:
        f(*args)
    except ValueError:
        return
    raise AssertionError("taken: %s" % (args,))


key = Key(LINE)
assert key.opening(HEAD, NONCE) == HEAD + NONCE + u("30f5958334097525ca1767d7c5350ca8")
refuses(key.answer, ANSWER[:-1] + b"9")
seal = key.answer(ANSWER)
assert seal.seal(u("0101000743e84200")) == u("3dadc9f1d2654ba982a5e8e2fd0cd1e0")
assert seal.seal(u("10002b2c0107026f6e1701020304")) == u("f47a811d454ed4042dedf182220d671e")
seal.open(u("020100000743e848002802090c206000"), u("c57fc5e6c54771e100d8aaa7a9668e6e"))
# The same record again, and one that was changed.
refuses(seal.open, u("020100000743e848002802090c206000"), u("c57fc5e6c54771e100d8aaa7a9668e6e"))
refuses(seal.open, u("1429021e606d"), u("ae67a5e3da9b01a4be93d47987dac38b"))
seal.open(u("1429021e606c"), u("ae67a5e3da9b01a4be93d47987dac38b"))
refuses(Key, LINE.replace("AAAQ", "AAAR"))
refuses(Key, LINE.replace("kitchen", "cellar"))
print("all vectors")
