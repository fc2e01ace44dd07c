"""A booted machine with the debug image, the shell on its console, and QEMU's monitor."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from confide.commands.system import Build
from confide.host.runner.vm import Machine
from tests.support.launch import launched_for

BOOT_SECONDS = 300
SHELL_SECONDS = 120
MONITOR_SECONDS = 60


class DebugMachine:
    """The machine from the host's side: what is typed, and what QEMU is told."""

    def __init__(self, machine: Machine, keyboard: int, monitor: Path) -> None:
        self._machine, self._keyboard, self._asked = machine, keyboard, 0
        self._monitor = socket.socket(socket.AF_UNIX)
        self._monitor.settimeout(MONITOR_SECONDS)
        self._monitor.connect(str(monitor))
        self._replies = self._monitor.makefile("r")
        self._replies.readline()  # the greeting
        self.tell("qmp_capabilities")

    def tell(self, name: str, **arguments: str) -> None:
        """Have QEMU do something; it says that it did."""
        request = {"execute": name, "arguments": arguments}
        self._monitor.sendall(json.dumps(request).encode() + b"\n")
        while "event" in (reply := json.loads(self._replies.readline())):
            pass
        assert "return" in reply, reply

    def type(self, command: str) -> str:
        """What a command of one line says.

        Raises:
            UnavailableError: The shell does not answer.
        """
        self._asked += 1
        start, end = f"start-{self._asked}-", f"end-{self._asked}-"
        # In two pieces, so that the echo of the command is not taken for its output
        line = f"echo {start[:3]}''{start[3:]}; {command}; echo {end[:3]}''{end[3:]}\n"
        os.write(self._keyboard, line.encode())
        deadline = time.monotonic() + SHELL_SECONDS
        while time.monotonic() < deadline:
            said = self._machine.console.read_text(errors="replace").replace("\r", "")
            if start in said and end in said.split(start)[-1]:
                return said.split(start)[-1].split(end)[0].strip()
            time.sleep(0.2)
        raise self._machine.failure("has no shell", "no answer on its console")


@contextmanager
def booted(
    build: Build, image: Path, folder: Path, extra: Sequence[str] = ()
) -> Iterator[DebugMachine]:
    """The debug image, booted, with a shell that takes what is typed."""
    typed, monitor = folder / "typed", folder / "monitor"
    os.mkfifo(typed)
    keyboard = os.open(typed, os.O_RDWR)
    arguments = ["-set", f"chardev.console.input-path={typed}"]
    arguments += ["-qmp", f"unix:{monitor},server=on,wait=off", *extra]
    try:
        with Machine(
            image,
            "coordinator",
            config=launched_for(build),
            run_dir=folder / "run",
            tools=build.tools,
            direct=True,
            extra=arguments,
        ) as machine:
            machine.wait_ready(BOOT_SECONDS)
            yield DebugMachine(machine, keyboard, monitor)
    finally:
        os.close(keyboard)
