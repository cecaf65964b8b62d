# CRC-32, as in Ethernet, for firmware that has none.
# SPDX-License-Identifier: MIT OR Apache-2.0


def crc32(data, crc=0):
    crc ^= 0xFFFFFFFF
    for b in data:
        crc ^= b
        for _ in range(8):
            crc = crc >> 1 ^ 0xEDB88320 if crc & 1 else crc >> 1
    return crc ^ 0xFFFFFFFF
