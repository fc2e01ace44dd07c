"""The whole service on one computer: three measured machines or more, a gateway and a proxy.

`confide demo` and the end-to-end tests use it, so a person sees what the tests check. The machines
have virtual TPMs, which protect nothing against this host.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from confide.client.collateral.finder import offline
from confide.client.service import set_manifest
from confide.errors import UnavailableError
from confide.host.manifest_builder import stamp
from confide.host.runner.qemu import Tools, free_port
from confide.host.runner.vm import Machine
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.roles import WORKERS, Role

ROLES = (Role.COORDINATOR, Role.SECRET_SERVICE, Role.WORKER_CPU)

SECONDS_EACH = 200
"""How long a machine may take, for each one that starts at the same time: they share processors."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Build:
    """What the flake built: a folder for each image, the model disk, the manifest, QEMU."""

    images: Path
    model: Path
    manifest: Path
    tools: Tools

    @property
    def model_name(self) -> str:
        """The name under which the model disk is served, from the model.json beside it."""
        return str(json.loads((self.model / "model.json").read_text())["name"])


class Program:
    """A child process (gateway or proxy) with its log file; stopped with the service."""

    def __init__(self, name: str, argv: Sequence[str], *, url: str, log: Path) -> None:
        self.name, self.url, self.log = name, url, log
        self._log = log.open("wb")
        # The child runs the code of this process, and its output is shown on this terminal later.
        environment = {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "COLUMNS": str(shutil.get_terminal_size((120, 24)).columns),
        }
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )

    def wait_ready(self, timeout: float) -> None:
        """Wait until /healthz answers 200. Raises UnavailableError with the end of the log."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if requests.get(f"{self.url}/healthz", timeout=5).status_code == 200:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.2)
        tail = self.log.read_text(errors="replace")[-2000:]
        raise UnavailableError(
            "program-not-ready",
            f"the {self.name} did not become ready",
            expected=f"200 from {self.url}/healthz within {timeout:.0f} s",
            seen=tail.strip() or "no output",
            next=f"read {self.log}",
        )

    def stop(self) -> None:
        """Ask the process to stop; kill it after five seconds."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()


class System:
    """A running service: entering it boots the machines and sets the manifest.

    There are one coordinator, and as many secret services and workers as asked for. A machine has
    the name of its role; the second one of a role is "secret-service-2", and so on. Each worker
    serves `models`, by default the one that the model disk was built for. `manifest` is the file of
    the build's manifest, stamped with the time of this start: what was built long ago can still be
    shown. All machines are launched for it. `memory_mib` says how much memory the machines of a
    role have, if not what the runner gives them.
    """

    def __init__(
        self,
        build: Build,
        run_dir: Path,
        *,
        models: Sequence[str] = (),
        secret_services: int = 1,
        workers: int = 1,
        memory_mib: Mapping[Role, int] | None = None,
        progress: Progress = lambda _: None,
    ) -> None:
        self.build, self.run_dir, self.progress = build, run_dir, progress
        self.manifest = run_dir / "manifest.json"
        self.models = tuple(models) or (build.model_name,)
        self._secret_services = _names(Role.SECRET_SERVICE, secret_services)
        self._workers = _names(Role.WORKER_CPU, workers)
        self.machines: dict[str, Machine] = {}
        self.seconds: dict[str, float] = {}
        self._memory_mib = dict(memory_mib or {})
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        stamped = stamp(self.build.manifest.read_bytes(), now=int(time.time()))
        self.manifest.write_bytes(stamped)
        try:
            self._boot()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def machine(self, name: str) -> Machine:
        """The running machine of this name; KeyError before it was started."""
        return self.machines[name]

    @property
    def binding(self) -> bytes:
        """What the machines are bound to: the SHA-256 of the manifest."""
        return sha256(self.manifest.read_bytes()).digest()

    def _start(
        self, role: Role, name: str, config: ConfigDisk, model_disks: Sequence[Path] = ()
    ) -> Machine:
        machine = Machine(
            self.build.images / role,
            role,
            config=config,
            run_dir=self.run_dir / name,
            model_disks=model_disks,
            tools=self.build.tools,
            memory_mib=self._memory_mib.get(role),
        )
        self.machines[name] = self._stack.enter_context(machine)
        return machine

    def _boot(self) -> None:
        start = time.monotonic()
        # All start at once: a node keeps asking until its coordinator answers.
        coordinator = self._start(Role.COORDINATOR, Role.COORDINATOR, ConfigDisk(self.binding))
        node = ConfigDisk(self.binding, coordinator.guest_url(8000))
        keys = [self._start(Role.SECRET_SERVICE, name, node) for name in self._secret_services]
        serving = replace(
            node,
            secret_services=tuple(machine.guest_url(8443, scheme="https") for machine in keys),
            models=self.models,
        )
        for name in self._workers:
            self._start(Role.WORKER_CPU, name, serving, [self.build.model / "model.disk"])
        seconds = SECONDS_EACH * len(self.machines)
        coordinator.wait_ready(seconds)
        self._ready(Role.COORDINATOR, start)
        set_manifest(coordinator.url, self.manifest.read_bytes(), offline())
        self.progress("coordinator: verified, has the manifest")
        for name in (*self._secret_services, *self._workers):
            self.machines[name].wait_ready(seconds)
            self._ready(name, start)
            self.progress(f"{name}: ready")
        # Verified by now: the coordinator's evidence here, that of the others by the coordinator.
        self.progress(f"each machine's evidence: bound to manifest {self.binding.hex()[:16]}…")

    def _ready(self, name: str, start: float) -> None:
        self.seconds[name] = time.monotonic() - start

    def start_gateway(self) -> Program:
        """Start the gateway in front of all machines and wait until it answers."""
        listen = f"127.0.0.1:{free_port()}"
        argv = ["gateway", "--listen", listen]
        for machine in self.machines.values():
            option = "--worker" if machine.role in WORKERS else f"--{machine.role}"
            argv += [option, machine.url]
        return self._program("gateway", argv, listen, timeout=30)

    def start_proxy(
        self, gateway_url: str, *, listen: str = "", options: Sequence[str] = ()
    ) -> Program:
        """Start a proxy that pins the service's manifest; ready: it has verified the service."""
        listen = listen or f"127.0.0.1:{free_port()}"
        argv = ["proxy", "--gateway", gateway_url, "--listen", listen]
        argv += ["--manifest", os.fspath(self.manifest), "--development", *options]
        return self._program("proxy", argv, listen, timeout=60)

    def _program(self, name: str, argv: Sequence[str], listen: str, *, timeout: float) -> Program:
        program = Program(
            name,
            [sys.executable, "-m", "confide", *argv],
            url=f"http://{listen}",
            log=self.run_dir / f"{name}-{listen.rpartition(':')[2]}.log",
        )
        self._stack.callback(program.stop)
        program.wait_ready(timeout)
        return program


def _names(role: Role, count: int) -> list[str]:
    return [role, *(f"{role}-{number}" for number in range(2, count + 1))]
