"""`confide gateway`: what it refuses before it serves, and what it announces."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from confide.commands.cli import main
from tests.support.native_service import Processes
from tests.support.programs import free_port

PEERS = ["--coordinator", "http://127.0.0.1:1", "--secret-service", "http://127.0.0.1:1"]
WORKER = ["--worker", "http://127.0.0.1:1"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([*PEERS, "--worker", "ftp://g"], "bad-url"),
        ([*PEERS, *WORKER, "--api-keys", "/nothing"], "unreadable-file"),
        ([*PEERS, *WORKER, "--api-keys", __file__], "bad-api-keys"),
        ([*PEERS, *WORKER, "--listen", "127.0.0.1:x"], "cannot-listen"),
        ([*PEERS, *WORKER, "--listen", "127.0.0.1:99999"], "cannot-listen"),
        ([*PEERS, *WORKER, "--listen", "192.0.2.1:9000"], "cannot-listen"),
    ],
)
def test_wrong_configuration(
    options: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gateway", *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"confide: {code}: ")


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["gateway", *PEERS, *WORKER, "--listen", listen]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "cannot-listen" in printed.err and listen in printed.err


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_it_announces_where_it_answers(tmp_path: Path, host: str) -> None:
    port = free_port()
    with Processes(tmp_path) as programs:
        given = ["gateway", *PEERS, *WORKER, "--listen", f"{host}:{port}"]
        programs.start("gateway", "confide", given, port=port)
        programs.urls["gateway"] = f"http://{host}:{port}"
        programs.wait("gateway", "ready")
        assert programs.log("gateway") == f"gateway: http://{host}:{port}, 1 worker(s)\n"
