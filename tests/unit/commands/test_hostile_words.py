"""The person who verifies reads what the verified party wrote: as words, and as that party's."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from confide.commands.cli import main
from confide.commands.status import ExitStatus
from measure.printable import MAX_LINE
from tests.support.programs import ROOT
from tests.support.simulated_machine import current_manifest

Answer = Callable[[dict[str, str]], None]
GOOD = {"code": "policy", "message": "no", "expected": "", "seen": "", "next": ""}
# Clears this program's line, goes up, and hides what follows.
FORGED = "\x1b[2K\x1b[1G\x1b[1A\x1b[2Kverified as of 2026-11-28 18:00:00 UTC\x1b[8m"
WORDS = {
    "escapes": FORGED,
    "C1 controls": "\x9b2K\x9b1Gverified",
    "lines": "no\nverified as of 2026-11-28 18:00:00 UTC\r\nverified\x0b\x0c\x85\u2028",
    "carriage return": "no\rconfide: verified as of 2026-11-28 18:00:00 UTC",
    "bidi": "\u202eCTU 00:00:81 82-11-6202 fo sa deifirev\u2066",
    "right to left": "\u05d0\u05d1 verified",
    "surrogate": "\ud800",
    "delete": "\x7f" * 20,
    "long": "verified " * 7000,
}


@pytest.fixture
def peer() -> Iterator[tuple[str, Answer]]:
    """The address of a party that answers everything with an error, and what sets that error."""
    error = dict(GOOD)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps({"error": error}).encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", error.update
        server.shutdown()


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "manifest.json"
    file.write_bytes(current_manifest())
    return file


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
@pytest.mark.parametrize("part", ["code", "message", "expected", "seen", "next"])
def test_each_part_of_a_peer_s_error_is_shown_as_words(
    peer: tuple[str, Answer],
    manifest: Path,
    capsys: pytest.CaptureFixture[str],
    part: str,
    words: str,
) -> None:
    url, answer = peer
    answer(GOOD | {part: words})
    command = ["verify", url, "--manifest", str(manifest), "--development", "--offline"]
    assert main(command) == ExitStatus.FAILED
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.split("\n")[:-1]
    assert line.isprintable() and len(line) <= MAX_LINE + 20
    # No peer's words stand behind this program's name without the peer's own.
    assert line.startswith((f"confide: policy: {url} answers: ", f"confide: not-confide: {url} "))

    assert main([*command, "--json"]) == ExitStatus.FAILED
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"]["code"] in ("policy", "not-confide")
    assert all(c == "\n" or " " <= c <= "~" for c in printed.out)


def test_the_whole_program(peer: tuple[str, Answer], manifest: Path) -> None:
    url, answer = peer
    answer(GOOD | {"message": FORGED})
    ended = subprocess.run(
        [sys.executable, "-m", "confide", "verify", url, "--manifest", manifest, "--development"],
        env={"PYTHONPATH": f"{ROOT / 'py'}:{ROOT}", "HOME": str(manifest.parent)},
        capture_output=True,
        timeout=60,
    )
    assert ended.returncode == ExitStatus.FAILED
    assert ended.stdout == b""
    assert all(byte == 10 or 32 <= byte < 127 for byte in ended.stderr)
    assert ended.stderr.count(b"\n") == 1
