"""The one place where errors become HTTP answers."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from flask import Flask, request

from confide.errors import (
    ConfideError,
    ConfigError,
    FormatError,
    PolicyError,
    UnavailableError,
    VerificationError,
)
from confide.guest.codes import CODES
from confide.net.server import Capacity, _Application, _Logger, flask_app, status_of
from tests.support.programs import ROOT, free_port

SECRET = "what a client sent"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FormatError("bad-cbor", "m"), 400),
        (VerificationError("bad-chain", "m"), 403),
        (PolicyError("unknown-role", "m"), 403),
        (PolicyError("unknown-key", "m"), 404),
        (PolicyError("key-exists", "m"), 409),
        (UnavailableError("no-manifest", "m"), 404),
        (UnavailableError("too-many-keys", "m"), 429),
        (UnavailableError("not-attested", "m"), 503),
        (UnavailableError("peer-timeout", "m"), 504),
        (ConfigError("no-config", "m"), 500),
        (ConfideError("anything", "m"), 500),
    ],
)
def test_status_by_code_then_by_class(error: ConfideError, status: int) -> None:
    assert status_of(error, CODES) == status


@pytest.fixture
def app() -> Flask:
    app = flask_app("test", codes=CODES, max_body=10)

    @app.post("/echo")
    def echo() -> bytes:
        return request.get_data()

    @app.get("/refuse")
    def refuse() -> str:
        raise PolicyError("key-exists", "m", expected="e", seen="s", next="n")

    @app.get("/crash")
    def crash() -> str:
        raise RuntimeError(SECRET)

    return app


def test_error_body(app: Flask) -> None:
    answer = app.test_client().get("/refuse")
    assert answer.status_code == 409
    assert answer.json == {
        "error": {"code": "key-exists", "message": "m", "expected": "e", "seen": "s", "next": "n"}
    }


def test_body_limit(app: Flask) -> None:
    client = app.test_client()
    assert client.post("/echo", data=b"x" * 10).data == b"x" * 10
    answer = client.post("/echo", data=b"x" * 11)
    assert answer.status_code == 413
    assert answer.json is not None
    assert answer.json["error"]["expected"] == "at most 10 bytes"


def test_unexpected_error_says_nothing(app: Flask, capfd: pytest.CaptureFixture[str]) -> None:
    answer = app.test_client().get("/crash")
    assert answer.status_code == 500
    assert answer.json is not None
    assert answer.json["error"]["code"] == "internal"
    printed = capfd.readouterr()
    assert SECRET not in answer.text + printed.out + printed.err
    assert printed.err == "confide: unexpected RuntimeError in test\n"


HOSTILE = "\x1b[2K\x9b1A\u202e\nverified"
ESCAPED = b"\\x1b[2K\\x9b1A\\u202e"


@pytest.mark.parametrize("kind", ["ValueError(HOSTILE)", "UnavailableError('code', HOSTILE)"])
def test_what_ends_a_start_is_escaped(kind: str) -> None:
    code = f"""
from confide.errors import UnavailableError
from confide.net.server import serve
HOSTILE = {HOSTILE!a}
def factory():
    raise {kind}
serve(factory, listen="127.0.0.1:{free_port()}")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{ROOT / 'py'}:{ROOT}"},
        capture_output=True,
        timeout=60,
    )
    assert ended.returncode
    assert ESCAPED in ended.stderr
    assert all(byte == 10 or 32 <= byte < 127 for byte in ended.stderr)


def test_what_the_server_s_library_logs_is_escaped(capfd: pytest.CaptureFixture[str]) -> None:
    log = _Logger(_Application(lambda: pytest.fail("not served"), [], Capacity()).cfg)
    try:
        log.error("%s", HOSTILE)
    finally:
        logging.getLogger("gunicorn.error").handlers.clear()
    (line,) = capfd.readouterr().err.splitlines()
    assert ESCAPED.decode() in line and line.isprintable()
