"""A FAKE engine process that does as it is told: prints, gets ready, ends, leaves a child behind.

    python scripted_engine.py SOCKET FOLDER ORDER...

It writes its process id to FOLDER/started, a line for each start. Orders, in turn: `print=TEXT` on
standard error, `flood` (prints 4 MiB without an end of line), `ready` (answers GET /health on
SOCKET from now on), `slow` (answers from now on with a byte and another, without an end), `child`
(starts a process in a session of its own that ignores SIGTERM; its id goes to FOLDER/child),
`wait=NAME` (until the file NAME is beside FOLDER), `end=STATUS`. After the last order it stays.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


class Health(BaseHTTPRequestHandler):
    slow = False

    def do_GET(self) -> None:
        while Health.slow:
            self.wfile.write(b"H")
            time.sleep(0.3)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    socket, folder, orders = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    with (folder / "started").open("a") as file:
        file.write(f"{os.getpid()}\n")
    for order in orders:
        name, _, value = order.partition("=")
        if name == "print":
            print(value, file=sys.stderr, flush=True)
        elif name == "ready":
            server = UnixStreamServer(socket, Health)
            threading.Thread(target=server.serve_forever, daemon=True).start()
        elif name == "slow":
            Health.slow = True
        elif name == "flood":
            os.write(2, b"x" * (4 << 20))
        elif name == "child":
            child = subprocess.Popen([sys.executable, "-c", CHILD], start_new_session=True)
            (folder / "child").write_text(str(child.pid))
        elif name == "wait":
            while not (folder.parent / value).exists():
                time.sleep(0.01)
        elif name == "end":
            os._exit(int(value))
    time.sleep(600)


if __name__ == "__main__":
    main()
