# The app mqtt: the server holds the connection to the broker.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio

from .apps import App, launch

PUBLISH, SUBSCRIBE, UNSUBSCRIBE, WILL, WELCOME = 1, 2, 3, 4, 5


# [topic, payload, retain] of that, or of [topic, payload, qos, retain] as in the reference.
def _message(m):
    return [m[0], m[1], m[3] if len(m) == 4 else m[2] if len(m) == 3 else False]


class Mqtt(App):
    ident = 1

    # `will` is published when the board is gone, `welc` now and whenever it is back.
    def __init__(self, will=None, welc=None, handler=None):
        super().__init__(handler=handler)
        self._will = _message(will) if will else None
        self._welc = _message(welc) if welc else None
        self._subs = {}  # callbacks by topic
        self._was_up = self.handler()
        self._again = False
        self._task = None
        self.refused = 0  # commands that the server has refused
        self.print_error = print
        if will or welc:
            self._announce()

    # cb(topic, payload, retained), a function or a coroutine. For a topic that ends in /set the state, the
    # retained message of the topic without /set, comes first.
    async def subscribe(self, topic, callback, qos=2, check_retained_state_topic=True):
        self._subs.setdefault(topic, []).append(callback)
        await self.write(SUBSCRIBE, [topic, check_retained_state_topic])

    async def unsubscribe(self, topic, cb=None):
        cbs = self._subs[topic]
        if cb is not None:
            cbs.remove(cb)
        if cb is None or not cbs:
            del self._subs[topic]
            await self.write(UNSUBSCRIBE, [topic])

    async def publish(self, topic, msg, qos=2, retain=False):
        return await self.write(PUBLISH, [topic, msg, retain], qos=bool(qos))

    def schedulePublish(self, topic, msg, qos=2, retain=False):
        asyncio.create_task(self.publish(topic, msg, qos, retain))

    # [topic, subscriptions it fits, payload, retained]
    def handle(self, header, data):
        if header == 6:
            self.refused += 1
            self.print_error("mqtt: command %s refused: %s" % (data[0], data[1]))
            return
        topics = data[1] if isinstance(data[1], list) else [data[1]]
        found = False
        for topic in topics:
            # The state comes under the topic without /set.
            for cb in self._subs.get(topic) or self._subs.get(topic + "/set") or ():
                found = True
                launch(cb, data[0], data[2], data[3])
        if not found:
            self.print_error("mqtt: %s is not subscribed" % data[0])

    # While the board was away its subscriptions have ended and its will was published.
    def concb(self, state):
        if state and self._was_up:
            self._announce()
        self._was_up = self._was_up or state

    def _announce(self):
        self._again = True
        if self._task is None:
            self._task = asyncio.create_task(self._tell())

    async def _tell(self):
        try:
            while self._again:
                self._again = False
                if self._will:
                    await self.write(WILL, self._will)
                if self._welc:
                    await self.write(WELCOME, self._welc)
                for topic in list(self._subs):
                    if topic in self._subs:
                        await self.write(SUBSCRIBE, [topic, False])
        finally:
            self._task = None
