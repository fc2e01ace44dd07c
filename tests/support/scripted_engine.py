"""A FAKE engine process that does as it is told: prints, gets ready, ends, leaves a child behind.

    python scripted_engine.py PORT FOLDER ORDER...

It writes its process id to FOLDER/started-PORT, a line for each start. Orders, in turn:
`print=TEXT` on standard error, `ready` (answers GET /health from now on), `child` (starts a process
that ignores SIGTERM; its id goes to FOLDER/child-PORT), `deaf` (ignores SIGTERM), `wait=NAME`
(until the file FOLDER/NAME is there), `end=STATUS`. After the last order it stays.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    port, folder, orders = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    with (folder / f"started-{port}").open("a") as file:
        file.write(f"{os.getpid()}\n")
    for order in orders:
        name, _, value = order.partition("=")
        if name == "print":
            print(value, file=sys.stderr, flush=True)
        elif name == "ready":
            server = HTTPServer(("127.0.0.1", port), Health)
            threading.Thread(target=server.serve_forever, daemon=True).start()
        elif name == "child":
            child = subprocess.Popen([sys.executable, "-c", CHILD])
            (folder / f"child-{port}").write_text(str(child.pid))
        elif name == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif name == "wait":
            while not (folder / value).exists():
                time.sleep(0.01)
        elif name == "end":
            os._exit(int(value))
    time.sleep(600)


if __name__ == "__main__":
    main()
