"""The files by which an engine's unit is started and ended, and what the engine says meanwhile.

The supervisor has no rights over the engines, and the images have no bus on which to ask the
service manager for anything. So path units wait for these files (images/worker/systemd):

* Each time that `start/N` is written, confide-engine@N.service starts.
* While `end/N` is there, a target runs that conflicts with that service. So the service manager
  ends all processes of the unit's control group.

The unit's standard error is a connection to the socket `stderr/N`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from confide.guest.worker.engine.launch import Launch
from confide.guest.worker.engine.place import Place
from confide.net.loops import start_loop

MAX_LINE = 500
"""Most bytes of a printed line; a longer one is cut in two."""

MAX_LINES = 200
"""Most lines of one start that are shown; vLLM's longest traceback has about 100."""

READ_SIZE = 1 << 16
"""Most bytes of one read of what nobody sees. It has to be read: else the engine would wait."""


class EngineUnit:
    """The unit of one engine, seen from the supervisor. `say` gets a line that the engine printed.

    Until the engine was ready for the first time in this boot, a bounded number of lines of each
    start are passed on: they tell why it does not start. Later lines go nowhere, also those of
    later starts: they may quote a prompt. A supervisor that was started again finds this in
    `quiet/N`.
    """

    def __init__(self, place: Place, say: Callable[[str], None], folder: Path) -> None:
        """`folder` is the supervisor's own."""
        self._place = place
        self._say = say
        number = str(place.number)
        for name in ("start", "end", "quiet", "stderr", "launch"):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        self._launch = folder / "launch" / f"{number}.json"
        self._start = folder / "start" / number
        self._end = folder / "end" / number
        self._quiet = folder / "quiet" / number
        address = folder / "stderr" / number
        address.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(address))
        self._listener.listen()
        start_loop(f"listening to engine {number}", self._hear)

    @property
    def running(self) -> bool:
        """Whether any process of the unit is there, as the service manager sees it."""
        return self._place.folder.exists()

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Have the unit started once. Soon it is `running`, if the service manager allows it."""
        self._launch.write_bytes(Launch(tuple(arguments), dict(environment)).encode())
        self._launch.chmod(0o644)
        self._start.write_bytes(b"")

    def end(self) -> None:
        """Have all processes of the unit ended. It has ended once it is not `running`."""
        self._end.touch()

    def ended(self) -> None:
        """It does not run: it may be started again."""
        self._end.unlink(missing_ok=True)

    def silence(self) -> None:
        """Pass on nothing that the engine prints from now on, in this boot."""
        self._quiet.touch()

    def _hear(self) -> float:
        connection, _ = self._listener.accept()
        with suppress(OSError), connection, connection.makefile("rb") as stderr:
            for _ in range(MAX_LINES):
                line = stderr.readline(MAX_LINE)
                # What came before `silence` came before the first request.
                if not line or self._quiet.exists():
                    break
                self._say(line.decode(errors="replace").rstrip())
            while stderr.read1(READ_SIZE):
                pass
        return 0.0
