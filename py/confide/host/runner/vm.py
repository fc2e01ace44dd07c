"""One booted machine: QEMU, its TPM and its disks, which start and end together."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from confide.errors import ConfigError, UnavailableError
from confide.host.runner import swtpm
from confide.host.runner.accelerator import kvm_works
from confide.host.runner.processes import ProcessGroup
from confide.host.runner.qemu import (
    HOST_IN_GUEST,
    DirectBoot,
    MachineSpec,
    Tools,
    arguments,
    free_port,
)
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.roles import Role

SERVICE_PORT = 8000
PORTS: Mapping[str, tuple[int, ...]] = {Role.SECRET_SERVICE: (SERVICE_PORT, 8443)}
MEMORY_MIB: Mapping[str, int] = {Role.WORKER_CPU: 4096}
DEFAULT_MEMORY_MIB = 1024
CPUS: Mapping[str, int] = {Role.WORKER_CPU: max(2, min(4, os.cpu_count() or 2))}
DEFAULT_CPUS = 2
# Emulated processors wait for each other: for locks, and for interrupts between them.
EMULATED_CPUS = 1

# A coordinator waits for its manifest; a machine that was launched for none attests only.
READY_STATES = ("ready", "no-manifest", "inventory")
POLL_SECONDS = 0.5
REQUEST_SECONDS = 5.0
QUIT_SECONDS = 5.0
TAIL_BYTES = 6000
MAX_HEALTH = 65536
# Lines in which the guest, its kernel or its firmware says why it ends; and the one that says only
# which program was the first to end
_CAUSE = re.compile(
    r"boot failed:|this machine ends:|confide-disks: [\w-]+: |Kernel panic|device-mapper: verity"
    r"|failed to load Boot"
)
GENERAL_CAUSE = re.compile(r"confide: the [a-z ]+ has ended \(")
_CONTROL_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-Z\\-_c])")


def default_cpus(role: str, *, kvm: bool) -> int:
    """How many processors a machine of this role gets, if nobody says another number."""
    return CPUS.get(role, DEFAULT_CPUS if kvm else EMULATED_CPUS)


class Machine:
    """A machine booted from the folder of an image; use it as a context manager.

    It boots from its disk. With `direct`, the firmware gets the kernel, initrd and command line of
    the unified kernel image on that disk, as in a confidential machine.

    `ports` maps guest ports to host ports (0: any free one); the default depends on the role.
    `config` is the content of its config disk, or None for a machine without one, which does not
    come up. `run_dir` keeps the logs, mainly `console.log`. `extra` are further QEMU arguments, for
    tests that play a hostile host.
    """

    def __init__(
        self,
        image_dir: Path,
        role: str,
        *,
        config: ConfigDisk | None,
        run_dir: Path | None = None,
        model_disks: Sequence[Path] = (),
        ports: Mapping[int, int] | None = None,
        tools: Tools | None = None,
        memory_mib: int | None = None,
        cpus: int | None = None,
        direct: bool = False,
        extra: Sequence[str] = (),
    ) -> None:
        self.role = role
        self.disk = image_dir / "disk.raw"
        self._direct = DirectBoot.of(image_dir) if direct else None
        self.run_dir = run_dir or Path(tempfile.mkdtemp(prefix=f"confide-{role}-"))
        self.console = self.run_dir / "console.log"
        self._tools = tools or Tools.find()
        self._config = None if config is None else config.encode()
        self._model_disks = tuple(model_disks)
        self._ports = dict(ports or dict.fromkeys(PORTS.get(role, (SERVICE_PORT,)), 0))
        self._memory_mib = memory_mib or MEMORY_MIB.get(role, DEFAULT_MEMORY_MIB)
        self._cpus = cpus
        self._extra = tuple(extra)
        self._stack = contextlib.ExitStack()
        self._qemu: subprocess.Popen[bytes] | None = None
        self._monitor: socket.socket | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def port(self, guest: int = SERVICE_PORT) -> int:
        """The port of 127.0.0.1 that leads to the guest's port."""
        return self._ports[guest]

    @property
    def ports(self) -> Mapping[int, int]:
        """Guest ports to ports of 127.0.0.1, valid once the machine has started."""
        return self._ports

    @property
    def url(self) -> str:
        """The address of the machine's service on this computer."""
        return f"http://127.0.0.1:{self.port()}"

    def guest_url(self, guest: int = SERVICE_PORT, *, scheme: str = "http") -> str:
        """The address of the guest's port for other machines; this computer forwards it."""
        return f"{scheme}://{HOST_IN_GUEST}:{self.port(guest)}"

    @property
    def running(self) -> bool:
        """Whether the machine was started and has not ended."""
        return self._qemu is not None and self._qemu.poll() is None

    def start(self) -> None:
        """Power the machine on.

        Raises:
            ConfigError: A disk is missing.
            UnavailableError: The machine cannot be started.
        """
        for path in (self.disk, *self._model_disks):
            if not path.is_file():
                raise ConfigError(
                    "no-disk",
                    "a disk of the machine is missing",
                    expected=str(path),
                    seen="no such file",
                    next="build the image, and give the folder with its disk.raw",
                )
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.console.unlink(missing_ok=True)
        try:
            self._start()
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError):
                raise self.failure("cannot be started", str(error)) from error
            raise

    def _start(self) -> None:
        kvm = kvm_works(self._tools)
        # The state of the guest is private, and goes with the machine
        state = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="confide-vm-")))
        group = ProcessGroup()
        self._stack.callback(group.kill)
        variables, tpm_state = state / "variables.fd", state / "tpm"
        shutil.copyfile(self._tools.variables, variables)
        tpm_state.mkdir(mode=0o700)
        tpm_log = self.run_dir / "swtpm.log"
        swtpm.provision(self._tools.swtpm, tpm_state, group, tpm_log)
        config_disk = None
        if self._config is not None:
            config_disk = state / "config.disk"
            config_disk.write_bytes(self._config)
        self._ports = {guest: host or free_port() for guest, host in self._ports.items()}
        tpm = swtpm.serve_machine(self._tools.swtpm, tpm_state, group, tpm_log)
        self._monitor, monitor = socket.socketpair()
        self._stack.callback(self._monitor.close)
        with tpm, monitor:
            spec = MachineSpec(
                disk=self.disk,
                variables=variables,
                console=self.console,
                memory_mib=self._memory_mib,
                cpus=self._cpus or default_cpus(self.role, kvm=kvm),
                kvm=kvm,
                tpm=tpm.fileno(),
                monitor=monitor.fileno(),
                direct=self._direct,
                config_disk=config_disk,
                model_disks=self._model_disks,
                ports=self._ports,
                extra=self._extra,
            )
            argv = arguments(self._tools, spec)
            log = self.run_dir / "qemu.log"
            self._qemu = group.start(argv, log=log, pass_fds=[tpm.fileno(), monitor.fileno()])

    def wait_ready(
        self, timeout: float = 180.0, interrupted: threading.Event | None = None
    ) -> dict[str, object]:
        """Wait until /healthz says that the service is ready.

        Args:
            timeout: Seconds to wait at most.
            interrupted: Ends the waiting early when it is set.

        Returns:
            The JSON of /healthz; {} if interrupted.

        Raises:
            UnavailableError: It took longer, or the machine ended; with the end of its console.
        """
        deadline = time.monotonic() + timeout
        interrupted = interrupted or threading.Event()
        seen = "no answer"
        while time.monotonic() < deadline:
            if not self.running:
                raise self.failure("ended while it booted", "power off")
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                status, health = self._health()
                if status == http.HTTPStatus.OK and health.get("state") in READY_STATES:
                    return health
                seen = f"HTTP {status}, state {health.get('state')!a}"
            if interrupted.wait(POLL_SECONDS):
                return {}
        raise self.failure(f"is not ready after {timeout:.0f} s", seen)

    def _health(self) -> tuple[int, dict[str, object]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port(), timeout=REQUEST_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", "/healthz")
            response = connection.getresponse()
            health = json.loads(response.read(MAX_HEALTH))
            return response.status, health if isinstance(health, dict) else {}

    def stop(self) -> None:
        """Power the machine off, and remove everything but its logs. May be called again."""
        if self._monitor is not None and self._qemu is not None and self.running:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._monitor.sendall(b'{"execute":"qmp_capabilities"}{"execute":"quit"}\n')
                self._qemu.wait(QUIT_SECONDS)
        self._stack.close()
        self._monitor = None

    def console_tail(self) -> str:
        """The end of what the machine printed, without control characters."""
        parts = []
        for name in ("qemu.log", "console.log"):
            with contextlib.suppress(OSError), (self.run_dir / name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                parts.append(_printable(file.read().decode(errors="replace")))
        return "\n".join(part for part in parts if part)

    def cause(self) -> str:
        """The last line on the console that says why the machine ends, or ""."""
        lines = self.console_tail().splitlines()
        for pattern in (_CAUSE, GENERAL_CAUSE):
            for line in reversed(lines):
                if pattern.search(line):
                    return line
        return ""

    def failure(self, what: str, seen: str) -> UnavailableError:
        """The error for a machine that failed, with the end of its console."""
        tail = self.console_tail()
        if cause := self.cause():
            seen += f": {cause}"
        return UnavailableError(
            "machine-not-ready",
            f"the {self.role} machine {what}",
            expected="an answer from its /healthz",
            seen=f"{seen}; its console ends with:\n{tail}\n" if tail else f"{seen}, empty console",
            next=f"read {self.console}",
        )


def _printable(text: str) -> str:
    """Text without control sequences: a guest must not control this person's terminal."""
    lines = (
        "".join(c for c in _CONTROL_SEQUENCE.sub("", line) if c.isprintable()).strip()
        for line in text.splitlines()
    )
    return "\n".join(line for line in lines if line)
