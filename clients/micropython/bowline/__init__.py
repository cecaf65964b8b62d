# Bowline on a board: a link to a server that outlives the WiFi, the server and, with an outbox on
# the flash, the board itself.
# SPDX-License-Identifier: MIT OR Apache-2.0
#
#   client     Client: the connection and what is read and written over it
#   native     dialect N, our own; keyed: its login with a key
#   headers    dialect H, which servers of micropython-iot speak, too
#   outbox     messages that wait in a file on the flash
#   queue      messages that wait in RAM
#   apps       several apps over one link; mqtt: one of them
#   oneshot    one question, one answer; services: echo, http and the time of the server
#   wifi, wdog supervision of WiFi and of the program
#
# Nothing is imported that a program does not use: `from bowline.client import Client`.

__version__ = "0.1.0"
