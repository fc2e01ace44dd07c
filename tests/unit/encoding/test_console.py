"""What every program prints is escaped, also what nobody expected to be printed."""

from __future__ import annotations

import errno
import io
import subprocess
import sys

import pytest

from confide.encoding.console import print_json, say, show
from measure import output
from measure.printable import MAX_LINE
from tests.support.programs import ROOT

HOSTILE = "\x1b[2K\x9b1A\u202e\u05d0\r\nverified\x7f"
SHOWN = r"\x1b[2K\x9b1A\u202e\u05d0\r\nverified\x7f"


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    say(HOSTILE, program="confide-disks")
    show(HOSTILE, "two")
    printed = capsys.readouterr()
    assert printed.err == f"confide: {SHOWN}\nconfide-disks: {SHOWN}\n"
    assert printed.out == f"{SHOWN}\ntwo\n"
    output.say(HOSTILE)
    output.show(HOSTILE, "two")
    printed = capsys.readouterr()
    assert (printed.err, printed.out) == (f"measure: {SHOWN}\n", f"{SHOWN}\ntwo\n")


class FullDisk(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")


def test_a_full_disk_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway or a proxy whose output goes to a file: each line is about work that goes on."""
    monkeypatch.setattr(sys, "stderr", FullDisk())
    say("one line")


def test_json_is_whole_and_in_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    long = "\x7f\u202e" * MAX_LINE
    for write in (print_json, output.print_json):
        write({"seen": long})
        text = capsys.readouterr().out
        assert all(c == "\n" or " " <= c <= "~" for c in text)
        assert eval(text) == {"seen": long}


@pytest.mark.parametrize(
    "code",
    [
        "raise ValueError(HOSTILE)",
        "import threading\nt = threading.Thread(target=lambda: int(HOSTILE[:1] + HOSTILE))\n"
        "t.start(); t.join()",
        "import logging\nlogging.getLogger('urllib3').warning('%s', HOSTILE)",
    ],
    ids=["main thread", "another thread", "a library's log"],
)
def test_what_nobody_handles(code: str) -> None:
    start = "from confide.encoding.console import *\nescape_the_unexpected()\n"
    ended = subprocess.run(
        [sys.executable, "-c", f"{start}HOSTILE = {HOSTILE!a} + chr(27)\n{code}"],
        env={"PYTHONPATH": f"{ROOT / 'py'}:{ROOT}"},
        capture_output=True,
        timeout=60,
    )
    assert b"x1b[2K" in ended.stderr
    assert all(byte == 10 or 32 <= byte < 127 for byte in ended.stderr)
