"""nginx and HAProxy between a client and its gateway, as docs/operations.md sets them up."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from pathlib import Path

from tests.support.native_service import Processes
from tests.support.programs import ROOT, free_port

GATEWAY = "http://127.0.0.1:9000"
"""The gateway of the page's examples."""

IDLE_SECONDS = 4
"""After this time without a byte, each of them gives a connection up. It is 60 s on the page."""

_NGINX = """\
daemon off;
master_process off;
pid {folder}/pid;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_read_timeout {idle}s;
    keepalive_timeout {idle}s;
    server {{
        listen 127.0.0.1:{port};
{lines}
    }}
}}
"""


def examples() -> list[str]:
    """The blocks of code on the page for operators."""
    page = (ROOT / "docs/operations.md").read_text()
    return re.findall(r"(?m)(?:^    .*\n|^\n(?=    ))+", page)


def nginx_lines() -> str:
    """A location, whole."""
    (found,) = [block for block in examples() if "proxy_pass" in block]
    return found


def haproxy_lines() -> str:
    """Defaults, a frontend and a backend."""
    (found,) = [block for block in examples() if "default_backend" in block]
    return found


def start_nginx(service: Processes, name: str, gateway: str, programs: Path) -> str:
    """Nginx with the page's lines, and all else as it comes but the time limits; its URL."""
    folder = service.folder / name
    folder.mkdir()
    port = free_port()
    lines = _exchanged(nginx_lines(), GATEWAY, gateway)
    (folder / "nginx.conf").write_text(
        _NGINX.format(folder=folder, port=port, lines=lines, idle=IDLE_SECONDS)
    )
    log = str(folder / "error.log")
    command = [programs / "nginx", "-p", folder, "-c", folder / "nginx.conf", "-e", log]
    return _started(service, name, list(map(str, command)), port)


def start_haproxy(service: Processes, name: str, gateway: str, programs: Path) -> str:
    """HAProxy with the page's lines but for the time limits; its URL."""
    port = free_port()
    lines = _exchanged(haproxy_lines(), GATEWAY.removeprefix("http://"), gateway[len("http://") :])
    lines = _exchanged(lines, "bind :80", f"bind 127.0.0.1:{port}")
    lines = re.sub(
        r"(timeout (?:client|server|http-keep-alive)) +\w+", rf"\1 {IDLE_SECONDS}s", lines
    )
    config = service.folder / f"{name}.cfg"
    config.write_text(lines)
    return _started(service, name, [str(programs / "haproxy"), "-db", "-f", str(config)], port)


def _exchanged(text: str, old: str, new: str) -> str:
    assert old in text, f"the page's example has no {old}"
    return text.replace(old, new)


def _started(service: Processes, name: str, command: list[str], port: int) -> str:
    with (service.folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    url = service.adopt(name, process, port)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return url
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"{name} does not listen:\n{service.log(name)}")
