"""A whole SIMULATED service as child processes on this machine, for tests and measurements.

Started in order, each on a free port of 127.0.0.1, logs in one folder, all stopped at the end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from confide.net.coordinator_client import CoordinatorClient
from confide.net.http_client import Upstream
from confide.protocol.frames import WAIT_SECONDS
from tests.support.programs import ROOT, free_port
from tests.support.simulated_machine import MODEL, current_manifest


class Processes:
    """Context manager: child processes with an address each; all stopped at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.urls: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_engine(self) -> str:
        """The FAKE engine."""
        return self.start("engine", "tests.support.fake_engine")

    def start(
        self,
        name: str,
        module: str,
        options: Sequence[str] = (),
        *,
        listen: bool = False,
        port: int = 0,
    ) -> str:
        """Start `python -m module`; returns its URL. Its output goes to NAME.log.

        `port` is one that the options name already; else the program is told one.
        """
        address: list[str] = []
        if not port:
            port = free_port()
            address = ["--listen", f"127.0.0.1:{port}"] if listen else ["--port", str(port)]
        path = os.pathsep.join((str(ROOT / "py"), str(ROOT)))
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *options, *address],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": path},
            )
        return self.adopt(name, process, port)

    def adopt(self, name: str, process: subprocess.Popen[bytes], port: int) -> str:
        """Stop this process, too, at the end; returns its URL."""
        self._stack.callback(_stop, process)
        self.processes[name] = process
        self.urls[name] = f"http://127.0.0.1:{port}"
        return self.urls[name]

    def wait(self, name: str, state: str, seconds: float = 120.0) -> None:
        """Wait until a program's health has this state. Raises TimeoutError with its output."""
        upstream = Upstream(self.urls[name], read_seconds=5.0)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.processes[name].poll() is None:
            try:
                if json.loads(upstream.call("GET", "/healthz")[2])["state"] == state:
                    return
            except Exception:
                pass
            time.sleep(0.05)
        raise TimeoutError(f"{name} is not {state}:\n{self.log(name)}")

    def stop(self, name: str) -> None:
        """Stop one program now."""
        _stop(self.processes[name])

    def kill(self, name: str) -> None:
        """End one program now, as if its machine were switched off."""
        process = self.processes[name]
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in (process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        process.wait()

    def log(self, name: str) -> str:
        """What a program has printed so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")


class NativeService(Processes):
    """A whole service: engine, coordinator, secret services, a worker; then gateway and proxy."""

    def __init__(
        self,
        folder: Path,
        *,
        manifest: bytes | None = None,
        models: Sequence[str] = (MODEL,),
        secret_services: int = 1,
    ) -> None:
        super().__init__(folder)
        self.models = models
        self.secret_services = [f"secret-service-{number}" for number in range(secret_services)]
        self.secret_services[0] = "secret-service"
        self._tls: list[str] = []
        self.manifest = manifest or current_manifest()

    def __enter__(self) -> Self:
        try:
            self._start_nodes()
        except BaseException:
            self._stack.close()
            raise
        return self

    @property
    def manifest_file(self) -> Path:
        """Where the manifest is, for programs."""
        return self.folder / "manifest.json"

    def _start_nodes(self) -> None:
        self.manifest_file.write_bytes(self.manifest)
        self.start_engine()
        coordinator = self.start_node("coordinator", ["coordinator"])
        self.wait("coordinator", "no-manifest")
        CoordinatorClient(coordinator).set_manifest(self.manifest)
        for name in self.secret_services:
            tls = free_port()
            options = ["secret-service", "--coordinator", coordinator, "--tls-port", str(tls)]
            self.start_node(name, options)
            self._tls.append(f"https://127.0.0.1:{tls}")
        self.start_worker("worker", self.models)
        for name in (*self.secret_services, "worker"):
            self.wait(name, "ready")

    def start_worker(
        self, name: str, models: Sequence[str], *, wait_seconds: float = WAIT_SECONDS
    ) -> str:
        """A worker that serves `models` from the engine, and says that it is there so often."""
        options = [f"--wait-seconds={wait_seconds}"]
        options += ["worker", "--coordinator", self.urls["coordinator"]]
        options += ["--engine", self.urls["engine"]]
        for url in self._tls:
            options += ["--secret-service", url]
        for model in models:
            options += ["--model", model]
        return self.start_node(name, options)

    def start_node(self, name: str, options: Sequence[str]) -> str:
        """A machine that was launched for the manifest."""
        launched = ["--manifest", str(self.manifest_file)]
        return self.start(name, "tests.support.native_node", [*options, *launched])

    def start_gateway(
        self, name: str = "gateway", options: Sequence[str] = (), workers: Sequence[str] = ()
    ) -> str:
        """The real gateway in front of everything."""
        given = list(options)
        for worker in workers or [self.urls["worker"]]:
            given += ["--worker", worker]
        given += ["--coordinator", self.urls["coordinator"]]
        for service in self.secret_services:
            given += ["--secret-service", self.urls[service]]
        url = self.start(name, "confide", ["gateway", *given], listen=True)
        self.wait(name, "ready")
        return url

    def start_proxy(self, gateway: str, name: str = "proxy", options: Sequence[str] = ()) -> str:
        """The real proxy, pinning this service's manifest."""
        given = [
            "--gateway",
            gateway,
            "--manifest",
            str(self.manifest_file),
            "--development",
            *options,
        ]
        url = self.start(name, "confide", ["proxy", *given], listen=True)
        self.wait(name, "ready")
        return url


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
