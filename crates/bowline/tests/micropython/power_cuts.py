# The outbox on a littlefs whose power is cut at every write and erase of a block, and on one that is full.
# SPDX-License-Identifier: MIT OR Apache-2.0

import os
import sys

sys.path.insert(0, "../../../../clients/micropython")

from bowline.outbox import Outbox

BLOCK = 128
BLOCKS = 128


class Flash:
    def __init__(self, data=b"\xff" * (BLOCK * BLOCKS)):
        self.data = bytearray(data)
        self.left = None  # writes until the power is cut; None: it is not
        self.writes = 0

    # Allocates nothing: files that nobody has closed after a cut are closed by the garbage collector.
    def readblocks(self, n, buf, off=0):
        at = n * BLOCK + off
        for i in range(len(buf)):
            buf[i] = self.data[at + i]

    def writeblocks(self, n, buf, off=0):
        at = n * BLOCK + off
        self.cut(at, buf)
        for i in range(len(buf)):
            self.data[at + i] = buf[i]

    def cut(self, at, buf):
        self.writes += 1
        if self.left is not None:
            if self.left == 0:
                # Half of it is written, and nothing any more after that.
                for i in range(len(buf) // 2):
                    self.data[at + i] = buf[i]
            self.left -= 1
            if self.left < 0:
                raise OSError(5)

    def ioctl(self, op, arg):
        if op == 4:
            return BLOCKS
        if op == 5:
            return BLOCK
        if op == 6:
            self.cut(arg * BLOCK, b"")
            for i in range(arg * BLOCK, (arg + 1) * BLOCK):
                self.data[i] = 0xFF
        return 0


def text(i):
    return b"message %d " % i + b"x" * (i * 7 % 50)


# A life of the board: messages are accepted and acknowledged, epochs begin, the cursor moves. Returns what is
# known to be stored: (epoch, acknowledged, first and last message that waits, cursor). `tried`: what may be.
class Life:
    def __init__(self, ob, epoch, first, last, got):
        self.ob = ob
        self.epoch, self.first, self.last, self.got = epoch, first, last, got
        self.tried_epoch, self.tried_last, self.tried_got = epoch, last, got

    def run(self, steps):
        ob = self.ob
        for step in range(steps):
            if step % 40 == 17:
                self.tried_epoch = self.epoch + 1
                ob.renew(self.epoch + 1)
                self.epoch += 1
                self.tried_got = self.got = 0
            elif step % 3 == 2 and self.first <= self.last:
                ob.ack(ob.acked + 1, step % 2)
                self.first += 1
            elif step % 7 == 3:
                self.tried_got = self.got + 1
                ob.mark(self.got + 1)
                self.got += 1
            else:
                self.tried_last = self.last + 1
                if ob.put(b"\x01\x02\x03" if self.last % 2 else None, text(self.last + 1)):
                    self.last += 1
                else:
                    self.tried_last = self.last
                    ob.ack(ob.acked + 2)
                    self.first += 2


def check(life):
    ob = Outbox("/flash/bowline", 2048)
    assert not ob.damaged
    assert ob.epoch in (life.epoch, life.tried_epoch), ("epoch", ob.epoch, life.epoch)
    assert ob.got in (life.got, life.tried_got, 0 if life.tried_epoch > life.epoch else life.got), "cursor"
    # Everything that was accepted and not acknowledged is there, in order; what was tried may be; what was
    # acknowledged may be once more.
    n = ob.last - ob.acked
    waits = [ob.get(ob.acked + 1 + i) for i in range(n)]
    first = int(bytes(waits[0][2]).split()[1]) if waits else life.last + 1
    assert first <= life.first, ("lost", first, life.first)
    for i, (mid, header, data) in enumerate(waits):
        assert data == text(first + i), ("changed", i, data)
        assert (header is None) == ((first + i) % 2 == 1), "header"
    last = first + n - 1
    assert last in (life.last, life.tried_last), ("lost at the end", last, life.last)
    mids = [m[0] for m in waits]
    for a, b in zip(mids, mids[1:]):
        assert b != a, "an id twice"
    return Life(ob, ob.epoch, first, last, ob.got)


def fresh():
    flash = Flash()
    os.VfsLfs2.mkfs(flash)
    os.mount(os.VfsLfs2(flash), "/flash")
    return flash


def lives(life, steps):
    life.ob = Outbox("/flash/bowline", 2048)
    life.run(steps)


def cuts(steps):
    flash = fresh()
    Life(Outbox("/flash/bowline", 2048), 0, 1, 0, 0).run(steps)
    whole = flash.writes
    os.umount("/flash")
    for cut in range(whole):
        flash = fresh()
        flash.left = cut
        life = Life(None, 0, 1, 0, 0)
        for f in (
            lambda: lives(life, steps),
            lambda: life.ob and life.ob.close(),
            lambda: os.umount("/flash"),
        ):
            try:
                f()
            except OSError:
                pass
        # The next life has a flash of its own, without power for the last one: the garbage collector closes the files
        # that were open at the cut whenever it likes, and closing one writes.
        flash = Flash(flash.data)
        os.mount(os.VfsLfs2(flash), "/flash")
        # It goes on, and the next start finds that.
        life = check(life)
        life.run(10)
        life.ob.close()
        check(life).ob.close()
        os.umount("/flash")
    print("cut at every one of", whole, "writes")


# No room on the flash: nothing is accepted, nothing is lost, and it goes on when there is room.
def full():
    flash = fresh()
    ob = Outbox("/flash/bowline", 8192)
    for i in range(1, 6):
        assert ob.put(None, text(i))
    n = 0
    try:
        while True:
            with open("/flash/other%d" % n, "wb") as f:
                f.write(b"x" * 450)
            n += 1
    except OSError:
        pass
    accepted = 5
    try:
        while True:
            if not ob.put(None, text(accepted + 1)):
                raise AssertionError("the flash is larger than the outbox")
            accepted += 1
    except OSError:
        pass
    for i in range(n):
        os.remove("/flash/other%d" % i)
    for i in range(3):
        assert ob.put(None, text(accepted + 1))
        accepted += 1
    ob.close()
    ob = Outbox("/flash/bowline", 8192)
    assert ob.last == accepted, (ob.last, accepted)
    for i in range(accepted):
        assert ob.get(i + 1)[2] == text(i + 1), i
    os.umount("/flash")
    print("full flash: nothing accepted, nothing lost")


full()
cuts(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
