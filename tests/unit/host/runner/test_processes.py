"""Children end with their group, and with this process, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from confide.host.runner.processes import ProcessGroup


def ended(pid: int) -> bool:
    """True once the process is gone (or only waits to be collected)."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_kill_ends_all_even_those_that_ignore_signals(tmp_path: Path) -> None:
    group = ProcessGroup()
    stubborn = ["/bin/sh", "-c", "trap '' TERM INT HUP; sleep 100 & wait; sleep 100"]
    children = [group.start(stubborn, log=tmp_path / "log") for _ in range(2)]
    assert all(child.poll() is None for child in children)
    group.kill()
    assert all(child.poll() == -signal.SIGKILL for child in children)
    group.kill()  # again is no error


def test_output_goes_to_the_log(tmp_path: Path) -> None:
    group = ProcessGroup()
    group.start(["/bin/sh", "-c", "echo out; echo err >&2"], log=tmp_path / "log").wait(10)
    group.kill()
    assert (tmp_path / "log").read_text() == "out\nerr\n"


def test_program_that_is_not_there(tmp_path: Path) -> None:
    group = ProcessGroup()
    with pytest.raises(FileNotFoundError):
        group.start([str(tmp_path / "missing")], log=tmp_path / "log")
    group.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_children_die_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from confide.host.runner.processes import ProcessGroup\n"
        "group = ProcessGroup()\n"
        "child = group.start(['/bin/sleep', '100'], log=Path(sys.argv[1]))\n"
        "print(child.pid, flush=True); time.sleep(100)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.send_signal(number)
        parent.wait(10)
    assert ended(child)
