"""Child processes that cannot outlive this one, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

# The watchdog leads the process group and reads from a pipe whose other end only we hold. When that
# end closes, because we close it or because we die, the watchdog kills the group and itself. Unlike
# a parent-death signal, this needs no code between fork and exec, and any thread may start a child.
_WATCHDOG = ("/bin/sh", "-c", "read -r _; kill -KILL 0")
_KILL_SECONDS = 10.0


class ProcessGroup:
    """Starts programs in one process group and ends them all together."""

    def __init__(self) -> None:
        watched, self._lifeline = os.pipe()
        try:
            # Same session, another group: Ctrl-C in the terminal reaches us, not our children
            self._watchdog = subprocess.Popen(
                _WATCHDOG,
                stdin=watched,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError:
            os.close(self._lifeline)
            raise
        finally:
            os.close(watched)
        self._children: list[subprocess.Popen[bytes]] = []

    def start(
        self, argv: Sequence[str], *, log: Path, pass_fds: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a program, and append its output to `log`. Raises OSError if it cannot start."""
        with log.open("ab") as output:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=pass_fds,
                process_group=self._watchdog.pid,
            )
        self._children.append(child)
        return child

    def kill(self) -> None:
        """Kill what still runs, and wait for its end. May be called again."""
        if self._lifeline < 0:
            return
        os.close(self._lifeline)
        self._lifeline = -1
        try:
            self._watchdog.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._watchdog.pid, signal.SIGKILL)
            self._watchdog.wait()
        for child in self._children:
            child.wait()
