# A board that is killed at any moment: `micropython diary.py HOST PORT DIALECT FOLDER [LAST]`. What it sends and
# receives is in FOLDER/sent and FOLDER/received, its outbox and cursor in FOLDER/bowline.*. With LAST
# it sends no more: it waits until all has arrived and LAST has come, and ends.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio
import sys

sys.path.insert(0, "../../../../clients/micropython")

from bowline.client import Client
from bowline.outbox import Outbox


# Lines that survive this process from their newline on. A torn one is as if it was never written.
class Diary:
    def __init__(self, path):
        lines = []
        try:
            with open(path) as f:
                lines = f.read().split("\n")
        except OSError:
            pass
        torn = lines.pop() if lines else ""
        self.last = {}
        for line in lines:
            words = line.split(" ")
            self.last[words[0]] = [int(word) for word in words[1:]]
        if torn:
            with open(path, "w") as f:
                f.write("\n".join(lines) + ("\n" if lines else ""))
        self.f = open(path, "a")

    def line(self, *words):
        self.f.write(" ".join(str(word) for word in words) + "\n")


async def sends(cl, diary):
    n = diary.last.get("send", [0])[0]
    while True:
        n += 1
        diary.line("send", n)
        await cl.post(None, n)
        diary.line("accepted", n)
        await asyncio.sleep_ms(2)


async def receives(cl, diary, until):
    taken = diary.last.get("take", [0, 0])
    while taken[1] != until:
        _, n = await cl.read()
        # On H messages have no number of their own: what comes again is known by what is in it.
        seq = cl.seq[1] if cl.seq else n
        if seq == taken[0]:
            diary.line("again", seq, n)
        else:
            diary.line("take", seq, n)
            taken = [seq, n]


async def main(host, port, dialect, folder, last=None):
    outbox = Outbox(folder + "/bowline", 4096)
    if outbox.damaged:
        raise ValueError("outbox damaged")
    cl = Client(None, "kitchen", host, int(port), timeout=1500, dialect=dialect, outbox=outbox, cursor=True)
    sent, received = Diary(folder + "/sent"), Diary(folder + "/received")
    if last is None:
        asyncio.create_task(receives(cl, received, None))
        await sends(cl, sent)
    await receives(cl, received, int(last))
    await cl.post(None, "end")
    await cl.flush()
    cl.close()
    print("done")


asyncio.run(main(*sys.argv[1:]))
