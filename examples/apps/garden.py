#!/usr/bin/env python3
"""An app outside of the server, in one file, with nothing but Python's library.

It counts the litres that each device reports, and answers with the sum. In the server's configuration:

    [[apps.external]]
    ident = 7
    name = "garden"

A device sends `{"litres": 2}` to app 7. Run it beside the server, as its user:

    python3 garden.py --socket bowline-data/control.sock

or anywhere on this machine, with `[api] listen = "127.0.0.1:9997"` in the configuration:

    python3 garden.py --tcp 127.0.0.1:9997 --token-file bowline-data/api-token
"""

import argparse
import http.client
import json
import socket
import time

WAIT_MS = 30_000


class Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=2 * WAIT_MS / 1000)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def connection(args):
    if args.tcp:
        return http.client.HTTPConnection(args.tcp, timeout=2 * WAIT_MS / 1000)
    return Unix(args.socket)


def post(server, path, body, headers):
    server.request("POST", path, json.dumps(body), {"content-type": "application/json", **headers})
    response = server.getresponse()
    text = response.read().decode()
    if response.status != 200:
        raise SystemExit(f"{path}: {response.status} {text}")
    return json.loads(text)


def handle(message, litres, seen):
    """The answer to a message. It may come more than once, under the same id."""
    if message["id"] not in seen:
        try:
            litres[message["device"]] = litres.get(message["device"], 0) + json.loads(message["payload"])["litres"]
        except (KeyError, ValueError, TypeError) as error:
            return {"nack": message["id"], "retry": False, "reason": f"expected {{\"litres\": number}}: {error!r}"}
        # A real app keeps both in one transaction of its database.
        seen.add(message["id"])
    total = json.dumps({"total": litres[message["device"]]})
    return {"ack": message["id"], "reply": {"tag": message["tag"], "payload": total}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--socket", default="bowline-data/control.sock")
    parser.add_argument("--tcp", metavar="HOST:PORT")
    parser.add_argument("--token-file")
    args = parser.parse_args()
    headers = {}
    if args.token_file:
        with open(args.token_file, encoding="ascii") as file:
            headers["authorization"] = f"Bearer {file.read().strip()}"
    litres, seen = {}, set()
    while True:
        server = connection(args)
        try:
            while True:
                messages = post(server, "/v1/apps/garden/next", {"max": 16, "wait_ms": WAIT_MS}, headers)["messages"]
                answers = [handle(message, litres, seen) for message in messages]
                if answers:
                    post(server, "/v1/apps/garden/answers", {"answers": answers}, headers)
        except (OSError, http.client.HTTPException) as error:
            print(f"no server: {error!r}; trying again", flush=True)
            time.sleep(1)
        finally:
            server.close()


if __name__ == "__main__":
    main()
