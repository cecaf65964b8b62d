# Several apps over one link. A message's header names them: ident, instance, and a byte of the app's own.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio
import gc
import sys

from .client import Client, launch

gc.collect()

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
        asyncio.create_task(self._dispatch())

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
        if _handler is self:
            _handler = None
        super().close()  # and with it ends _dispatch

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
            self.log("no more apps:", e)


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
        self.id = self.handler.addInstance(self)

    # Whether a message with this tag is for it.
    def takes(self, tag):
        return True

    async def handle(self, header, data):
        self.data = (header, data)
        while len(self._q) >= UNREAD and self.active:
            if self._reads:
                await self.handler.wait()
            else:
                self._q.pop(0)
                self.lost += 1
        self._q.append(self.data)
        self.handler.notify()

    # (the app's byte of the header, object)
    async def read(self):
        self._reads = True
        while not self._q:
            await self.handler.wait()
        m = self._q.pop(0)
        self.handler.notify()
        return m

    # False if the app was stopped.
    async def write(self, header, data, qos=True):
        if not self.active:
            return False
        return await self.handler.write(self.ident, self.id, header or 0, data, qos)

    async def stop(self):
        self.active = False
        self.data = None
        self.handler.notify()
        self.handler.deleteInstance(self)
