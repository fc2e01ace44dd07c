"""Runs role programs as child processes, with SIMULATED attesters: real gunicorn, real sockets."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Program:
    """A running program and its addresses on loopback."""

    process: subprocess.Popen[bytes]
    port: int
    tls_port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}"

    def health(self) -> dict[str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            answer: dict[str, str] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()

    def wait(self, state: str, *, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        seen = "nothing"
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                seen = self.health()["state"]
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
                continue
            if seen == state:
                return
            time.sleep(0.05)
        raise AssertionError(f"{state} expected, {seen} seen; log:\n{self.log.read_text()}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def program(name: str, folder: Path, manifest: bytes, *arguments: str) -> Iterator[Program]:
    """Start `tests.support.run_program NAME PORT TLS_PORT MANIFEST ARGUMENTS`; stopped at the end.

    The machine was launched for `manifest`.
    """
    port, tls_port = free_port(), free_port()
    log = folder / f"{name}-{port}.log"
    file = folder / f"{name}-{port}.manifest.json"
    file.write_bytes(manifest)
    argv = [sys.executable, "-m", "tests.support.run_program", name, str(port), str(tls_port)]
    argv.append(str(file))
    path = os.pathsep.join([str(ROOT), str(ROOT / "py")])
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*argv, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path},
        )
    try:
        yield Program(process, port, tls_port, log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
