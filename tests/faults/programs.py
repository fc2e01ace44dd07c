"""The programs of a faulty service: each can be killed, paused, and have its clock turned."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from confide.errors import ConfideError
from confide.net.calls import Caller

POLL_SECONDS = 0.05


@dataclass
class Program:
    """One program, or a worker with its engine: they are one machine, and share its fate.

    `command` and `engine` are the arguments behind `python -m`. `log` and `clock` are files;
    `clock` says by how much libfaketime turns the clock.
    """

    name: str
    url: str
    command: Sequence[str]
    group: int
    log: Path
    engine: Sequence[str] = ()
    clock: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _turned: int = 0
    _life: int = 0

    def start(self) -> None:
        """Start it, with the right clock. What it prints goes behind what is in its log."""
        environment = {**os.environ, **self.environment}
        if self.clock is not None:
            self._turned = 0
            self.clock.write_text("+0\n")
            environment["FAKETIME_TIMESTAMP_FILE"] = str(self.clock)
        self._life = self.log.stat().st_size if self.log.exists() else 0
        self._running = [
            self._run(command, log, environment)
            for command, log in ((self.engine, self.engine_log), (self.command, self.log))
            if command
        ]

    def _run(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                group=self.group,
                start_new_session=True,
            )

    @property
    def engine_log(self) -> Path:
        """What the engine prints: the prompts that it gets."""
        return self.log.with_suffix(".engine")

    @property
    def has_ended(self) -> bool:
        """Whether the program itself has ended."""
        return self._running[-1].poll() is not None

    def signal(self, number: int) -> None:
        """Send a signal to all of its processes."""
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def kill(self) -> None:
        """End it as if its machine were switched off."""
        self.signal(signal.SIGKILL)
        for process in self._running:
            process.wait()

    def ends(self, seconds: float) -> bool:
        """Wait until it has ended by itself; what else is on its machine ends with it."""
        try:
            self._running[-1].wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        # Its group has more than the process that was waited for.
        self.kill()
        return True

    def turn(self, seconds: int) -> None:
        """Turn its clock by so many more seconds."""
        assert self.clock is not None
        self._turned += seconds
        new = self.clock.with_suffix(".new")
        new.write_text(f"{self._turned:+d}\n")
        new.replace(self.clock)

    def state(self) -> str:
        """What it says of itself, "" if it does not answer."""
        caller = Caller(self.url, connect_seconds=2.0, read_seconds=2.0, total_seconds=3.0)
        try:
            return str(json.loads(caller.call("GET", "/healthz", limit=1 << 16)[2])["state"])
        except (ConfideError, ValueError, KeyError):
            return ""

    def wait(self, state: str, seconds: float) -> bool:
        """Wait until it says that it is in this state. False if it ends, or does not get there."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.has_ended:
            if self.state() == state:
                return True
            time.sleep(POLL_SECONDS)
        return False

    def said(self, *, ever: bool = False) -> str:
        """What it has printed since its start, or `ever`."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(0 if ever else self._life)
            return file.read().decode(errors="replace")
