"""SIMULATED units of engines: a thread in place of the service manager and its path units.

It looks at the same files (confide/guest/worker/engine/units.py). In place of a control group, the
processes of a unit have a mark in their environment.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from confide.guest.worker.engine.launch import Launch
from confide.guest.worker.engine.place import Place

POLL_SECONDS = 0.01


@dataclass
class _Unit:
    place: Place
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    asked: int = 0
    """When the last start was asked for, by the file's time in ns."""


@dataclass
class SimulatedUnits:
    """Units for engines, as a context. `folder` is the supervisor's; engines' are beside it."""

    folder: Path
    limit: int = 1000
    """Most starts of a unit."""
    units: list[_Unit] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def add(self) -> Place:
        """One more engine, whose user is the one who runs the test."""
        number = len(self.units) + 1
        place = Place(number, self.folder.parent / f"engine-{number}", os.getuid())
        self.units.append(_Unit(place))
        return place

    def __enter__(self) -> SimulatedUnits:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(20)
        for unit in self.units:
            self._end(unit)

    def _run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            for unit in self.units:
                number = str(unit.place.number)
                asked = _changed(self.folder / "start" / number)
                if unit.process is None:
                    if asked != unit.asked and unit.starts < self.limit:
                        unit.asked = asked
                        self._start(unit)
                elif unit.process.poll() is not None or (self.folder / "end" / number).exists():
                    self._end(unit)

    def _start(self, unit: _Unit) -> None:
        number = str(unit.place.number)
        launch = Launch.parse((self.folder / "launch" / f"{number}.json").read_bytes())
        unit.place.folder.mkdir()
        unit.starts += 1
        with socket.socket(socket.AF_UNIX) as stderr:
            stderr.connect(str(self.folder / "stderr" / number))
            unit.process = subprocess.Popen(
                launch.arguments,
                env={**launch.environment, "UNIT": str(unit.place.folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr.fileno(),
            )

    def _end(self, unit: _Unit) -> None:
        if unit.process is None:
            return
        while members := _marked(f"UNIT={unit.place.folder}"):
            for process in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            unit.process.poll()
            time.sleep(POLL_SECONDS)
        unit.process.wait()
        unit.process = None
        shutil.rmtree(unit.place.folder)


def _changed(file: Path) -> int:
    """When a file was written, 0 without one."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _marked(mark: str) -> list[int]:
    """The processes with this word in their environment."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
    return found
