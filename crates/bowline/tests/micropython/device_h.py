# Bowline test device, dialect H: `micropython device_h.py HOST PORT ID TIMEOUT_MS`.
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# A message is six hex digits (id, length of the user header, flags), the user header in hex,
# JSON. Only messages that ask for it are acknowledged. Commands and events: README.md.

import binascii
import json

import link

QOS = 0x01
ACK = 0x2C


class DeviceH(link.Device):
    # Boards keep one order for everything they write.
    BEST_EFFORT_QUEUES = True

    def login(self):
        return ("2c00ff%s\n" % self.ident).encode()

    def text(self, rest):
        # Through the board's own writer, so that spacing and escapes are what boards send.
        return json.dumps(json.loads(rest)).encode() if rest else b""

    def frame(self, mid, qos, header, text):
        header = header or b""
        pre = "%02x%02x%02x" % (mid, len(header) // 2, QOS if qos else 0)
        return pre.encode() + header + text + b"\n"

    async def line(self, line):
        try:
            mid, header_len, flags = binascii.unhexlify(line[:6])
            if flags & ACK == ACK:  # some servers send it with two bytes more: let them
                self.got_ack(mid)
                return
            end = 6 + 2 * header_len
            header = line[6:end]
            if len(binascii.unhexlify(header)) != header_len:
                raise ValueError("header cut short")
            text = line[end:]
            if text:
                json.loads(text.decode())
        except (ValueError, UnicodeError):
            # A board can do nothing with it either, and leaves it unacknowledged.
            link.say("error", "bad line", repr(line))
            return
        ack = ("%02x00%02x\n" % (mid, ACK)).encode() if flags & QOS else None
        await self.got_message(mid, header, text, ack)

    def command(self, word, rest):
        if word != "hqos":
            return False
        header, _, rest = rest.partition(" ")
        if len(binascii.unhexlify(header)) > 255:
            raise ValueError("header too long")
        text = self.text(rest.strip())
        self.enqueue(link.Job(self.number(), header.lower().encode(), text))
        return True


link.main(DeviceH)
