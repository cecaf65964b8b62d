# What waits for its ACK, in RAM.
# SPDX-License-Identifier: MIT OR Apache-2.0


# Messages under the seqs acked + 1 to last, each (id, header or None, payload). `outbox.Outbox` is
# the same in a file. `done` counts what was ever acknowledged, whatever the seqs do.
class Ram:
    durable = False
    epoch = 0  # 0: none yet
    acked = 0
    last = 0
    done = 0
    mid = -1  # the id given out last; -1: none
    got = 0  # how far the application has handled what came, as the dialect counts it
    spare = 255  # ids that best effort may take now

    def __init__(self, messages=16, size=4096):
        self._q = []
        self._room = messages
        self._size = self._free = size

    # The next id: 0 once, then 1 to 255 round and round.
    def take(self):
        self.mid = 0 if self.mid < 0 else self.mid % 255 + 1
        return self.mid

    # False if there is no room. ValueError if there never will be.
    def put(self, header, data):
        n = len(data)
        if n > self._size:
            raise ValueError("message longer than the outbox")
        if n > self._free or len(self._q) >= self._room:
            return False
        self._free -= n
        self._q.append((self.take(), header, data))
        self.last += 1
        return True

    def get(self, seq):
        return self._q[seq - self.acked - 1]

    # `now`: whether it must be known after a restart before anything else is sent.
    def ack(self, seq, now=False):
        while self.acked < seq:
            self.acked += 1
            self.done += 1
            self._free += len(self._q.pop(0)[2])

    # A new numbering: what waits becomes 1, 2, …
    def renew(self, epoch):
        self.epoch = epoch
        self.last -= self.acked
        self.acked = 0

    def mark(self, got):
        self.got = got

    def close(self):
        pass
