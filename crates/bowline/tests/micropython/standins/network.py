# A WiFi that can be dropped, for boards that have none: as much of `network` as the client uses.
# SPDX-License-Identifier: MIT OR Apache-2.0

import asyncio

STA_IF, AP_IF = 0, 1

there = True  # whether there is an access point
connected = joining = False  # a driver that was told to join goes on trying
joins = []  # the arguments of each connect()
actions = []  # what else was done
_open = asyncio.open_connection


class WLAN:
    def __init__(self, which):
        self._sta = which == STA_IF

    def active(self, on):
        actions.append(("sta" if self._sta else "ap", on))

    def isconnected(self):
        return connected

    def connect(self, *args):
        global connected, joining
        joins.append(args)
        joining = True
        connected = there

    def disconnect(self):
        global connected, joining
        connected = joining = False

    def config(self, **args):
        actions.append(args)


async def _open_connection(host, port):
    if not connected:
        raise OSError(113)  # EHOSTUNREACH
    return await _open(host, port)


asyncio.open_connection = _open_connection


def drop():
    global there, connected
    there = connected = False


def come_back():
    global there, connected
    there = True
    connected = joining
