# Several apps over one link. A message's header names them: ident, instance, and a byte of the app's own.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio
import sys

from .client import Client, launch, notify

TimeoutError = asyncio.TimeoutError
UNREAD = 5  # messages of an app that wait for it

_handler = None


# The one handler there is, made by the first call. Later ones need no arguments.
def get_apphandler(*args, **kw):
    return _handler or AppHandler(*args, **kw)


class AppHandler(Client):
    def __init__(self, loop, my_id, server, port=9999, timeout=4000, verbose=False, led=None,
                 conn_cb=None, **kw):
        global _handler
        self.apps = {}  # by instance id
        self._past = []  # ids under which an answer may still come, oldest first
        self.late = 0  # messages for an app there is not (any more)
        self._usercb = conn_cb
        super().__init__(loop, my_id, server, port, timeout=timeout, conn_cb=self._state,
                         verbose=verbose, led=led, **kw)
        _handler = self
        self._reader = asyncio.create_task(self._dispatch())

    # An id that no app has, if possible one under which nothing old can come.
    def addInstance(self, app):
        for past in (self._past, ()):
            for i in range(256):
                if i not in self.apps and i not in past:
                    self.apps[i] = app
                    if i in self._past:
                        self._past.remove(i)
                    return i
        raise ValueError("256 apps at a time")

    # `late`: something may still come for it.
    def deleteInstance(self, app, late=False):
        if self.apps.get(app.id) is app:
            del self.apps[app.id]
            if late:
                self._past.append(app.id)

    async def read(self):
        raise NotImplementedError("apps read")

    async def write(self, ident, instance, tag, data, qos=True):
        return await super().write(bytearray((ident, instance, tag)), data, qos)

    async def stop(self):
        for app in list(self.apps.values()):
            await app.stop()
        self.close()

    def close(self):
        global _handler
        if not self._closed:
            if _handler is self:
                _handler = None
            try:
                self._reader.cancel()
            except RuntimeError:
                pass  # an app closes it
            super().close()

    def _state(self, state, *args):
        for app in list(self.apps.values()):
            if hasattr(app, "concb"):
                launch(app.concb, state)
        if self._usercb:
            launch(self._usercb, state, *args)

    async def _dispatch(self):
        read = super().read
        try:
            while True:
                header, data = await read()
                app = self.apps.get(header[1]) if header and len(header) == 3 else None
                if app is None or app.ident != header[0] or not app.takes(header[2]):
                    self.late += 1
                    if header and header[1] in self._past:
                        self._past.remove(header[1])
                    self.log("late:", header, data)
                    continue
                try:
                    res = app.handle(header[2], data)
                    if hasattr(res, "send"):
                        await res
                except Exception as e:
                    sys.print_exception(e)  # that app's business alone
        except OSError as e:
            if not self._closed:
                sys.print_exception(e)


# One app. A subclass has its ident and overrides `handle`, a function or a coroutine; until that returns
# the next message waits, of whatever app. Without, messages are read by `read`, and `data` is the last.
class App:
    ident = 255

    def __init__(self, ident=None, handler=None):
        if ident is not None:
            self.ident = ident
        self.handler = handler or get_apphandler()
        self.active = True
        self.data = None
        self.lost = 0  # messages that nobody has read
        self._q = []
        self._reads = False
        self._ev = asyncio.Event()
        self.id = self.handler.addInstance(self)

    # Whether a message with this tag is for it.
    def takes(self, tag):
        return True

    async def handle(self, header, data):
        self.data = (header, data)
        while len(self._q) >= UNREAD and self.active:
            if self._reads:
                await self._ev.wait()
            else:
                self._q.pop(0)
                self.lost += 1
        self._q.append(self.data)
        notify(self._ev)

    # (the app's byte of the header, object)
    async def read(self):
        self._reads = True
        while not self._q:
            await self._ev.wait()
        m = self._q.pop(0)
        notify(self._ev)
        return m

    # False if the app was stopped.
    async def write(self, header, data, qos=True):
        if not self.active:
            return False
        return await self.handler.write(self.ident, self.id, header or 0, data, qos)

    async def stop(self):
        self.active = False
        self.data = None
        notify(self._ev)
        self.handler.deleteInstance(self)


# One question, one answer. An answer has the tag of its question, so that one of an earlier life of the
# board is not taken for it.
class _Request(App):
    _tag = None

    def __init__(self, ident, tag, handler):
        if _Request._tag is None:
            import os

            _Request._tag = os.urandom(1)[0]
        super().__init__(ident, handler)
        self.any = tag is not None
        if tag is None:
            tag = _Request._tag = (_Request._tag + 1) & 0xFF
        self.tag = tag

    def takes(self, tag):
        return self.any or tag == self.tag


# Asks the app `ident` and returns its answer. `tag`: a byte of the app's own; then any answer will do.
# TimeoutError after `timeout` s: an answer that comes later is discarded, and counted as `late`.
async def request(ident, data, tag=None, timeout=30, qos=True, handler=None):
    app = _Request(ident, tag, handler)
    answered = False
    try:
        answer = await asyncio.wait_for(_ask(app, data, qos), timeout)
        answered = True
        return answer
    finally:
        app.active = False
        app.handler.deleteInstance(app, not answered)


async def _ask(app, data, qos):
    # The answer may be there before the ACK is.
    await app.write(app.tag, data, qos)
    return (await app.read())[1]


# As in the reference: writes `message` under `header`, waits for one answer: (header, object).
async def AppTemporary(AppClass, header, message, timeout=120, ident=None):
    app = AppClass()
    if ident is not None:
        app.ident = ident

    async def ask():
        await app.write(header, message)
        return await app.read()

    answer = None
    try:
        answer = await asyncio.wait_for(ask(), timeout)
        return answer
    finally:
        await app.stop()
        if answer is None:
            app.handler._past.append(app.id)
