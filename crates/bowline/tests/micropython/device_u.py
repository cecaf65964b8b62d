# Bowline test device, dialect U: `micropython device_u.py HOST PORT ID TIMEOUT_MS`.
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A message is two hex digits (its id) and any text. Two hex digits alone are an ACK, and every
# message is acknowledged, asked for or not. Commands and events: README.md.

import binascii

import link


class DeviceU(link.Device):
    # Boards send these at once, also while a qos message waits for its ACK.
    BEST_EFFORT_QUEUES = False

    def login(self):
        return (self.ident + "\n").encode()

    def text(self, rest):
        if not rest:
            raise ValueError("an empty message would be taken for an ACK")
        return rest.encode()

    def frame(self, mid, qos, header, text):
        return ("%02x" % mid).encode() + text + b"\n"

    async def line(self, line):
        try:
            (mid,) = binascii.unhexlify(line[:2])
            line.decode()
        except (ValueError, UnicodeError):
            link.say("error", "bad line", repr(line))
            return
        if len(line) == 2:
            self.got_ack(mid)
        else:
            await self.got_message(mid, None, line[2:], ("%02x\n" % mid).encode())

    def command(self, word, rest):
        if word != "nowait":
            return False
        text = self.text(rest)
        job = link.Job(self.number(), None, text)
        self.spawn(self.qos(self.take_id(), job))
        return True


link.main(DeviceU)
