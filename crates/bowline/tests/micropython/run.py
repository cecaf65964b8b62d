# Runs a script for a board, with stand-ins for what a computer has not: `micropython run.py FILE`.
# SPDX-License-Identifier: MIT OR Apache-2.0

import sys

file = sys.argv[1]
sys.path[0:0] = ["standins", "../../../../clients/micropython", file.rsplit("/", 1)[0]]
with open(file) as f:
    exec(f.read(), {"__name__": "__main__"})
