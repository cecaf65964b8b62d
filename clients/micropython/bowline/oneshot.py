# One question to an app on the server, one answer.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio

from .apps import App

TimeoutError = asyncio.TimeoutError


# An answer has the tag of its question, so that one of an earlier life of the board is not taken for it.
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
