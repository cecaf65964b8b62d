# As much of `esp` as the client uses.
# SPDX-License-Identifier: MIT OR Apache-2.0

SLEEP_NONE = 0
sleeps = []


def sleep_type(kind):
    sleeps.append(kind)
