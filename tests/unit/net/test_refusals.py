"""Peers' errors: read within bounds, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from confide.errors import ConfideError, FormatError, PolicyError, UnavailableError
from confide.net.calls import Answer
from confide.net.refusals import peer_error, seconds_to_wait
from confide.protocol.error_answer import MAX_ERROR, read_error
from confide.protocol.frames import ClearError, clear_error
from confide.protocol.opener import ResponseOpener

ROOT = Path(__file__).resolve().parents[3]
ODD_PARTS: list[object] = [
    None, 1, 1.5, True, [], {}, "a\nb", "\x1b[2J", "\u202e", "x" * 1601
]  # fmt: skip
WORDS = {"code": "a-code", "message": "m", "expected": "e", "seen": "s", "next": "n"}


def said(error: object, status: int = 404, wait: str = "") -> ConfideError:
    body = error if isinstance(error, bytes) else json.dumps({"error": error}).encode()
    return peer_error(Answer(status, "", body, {"Retry-After": wait}), "http://peer")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, FormatError), (403, PolicyError), (429, UnavailableError), (503, UnavailableError)],
)
def test_an_error(status: int, kind: type[ConfideError]) -> None:
    error = said(WORDS, status, "7")
    assert type(error) is kind
    assert error.to_dict() == WORDS | {"message": "http://peer answers: m"}
    assert error.retry_after == 7


def test_every_error_of_ours_is_read() -> None:
    """Whatever it quotes: its sender escapes and cuts."""
    for odd in ("\x1b[2J", "x" * 10_000, "\n", "\u202e", "é" * 5000, "\ud800", "\0"):
        error = PolicyError("a-code", odd, expected=odd, seen=odd, next=odd)
        body = json.dumps({"error": error.to_dict()}).encode()
        assert read_error(body).code == "a-code"
        record = clear_error(error)
        assert ClearError.parse(record[5:]).message == error.to_dict()["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'{"error": null}',
        b'{"error": []}',
        b'{"error": "text"}',
        b"[" * 100_000,
        b'{"error":' * 20_000,
        b"9" * 5000,
        b"\xff\xfe",
        json.dumps({"error": WORDS, "more": 1}).encode(),
        json.dumps({"error": WORDS | {"more": ""}}).encode(),
        json.dumps({"error": {"code": "a", "message": "m"}}).encode(),
        json.dumps({"error": WORDS}).encode() + b" " * MAX_ERROR,
        *[
            json.dumps({"error": WORDS | {name: part}}).encode()
            for name in WORDS
            for part in ODD_PARTS
        ],
    ],
    ids=lambda body: repr(body)[:40],
)
def test_anything_else_is_a_plain_error(body: bytes) -> None:
    error = said(body, 503, "9")
    assert (error.code, error.seen) == ("not-confide", "HTTP status 503")
    assert (type(error), error.retry_after) == (UnavailableError, 9)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("1", 1), ("3600", 3600), ("99999999", 3600), ("9" * 400, 0), ("-1", 0),
     ("1.5", 0), (" 7", 0), ("", 0), ("\u0661", 0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0)],
)  # fmt: skip
def test_when_to_ask_again(text: str, seconds: int) -> None:
    assert seconds_to_wait(text) == seconds


def test_clear_errors_only_show() -> None:
    record = ClearError("a-code", "m", "e", "s\x1b[2J", "n").encode()
    opener = ResponseOpener(bytes(64), bytes(32))
    with pytest.raises(FormatError, match="not printable"):
        opener.feed(b"\x03" + len(record).to_bytes(4, "big") + record)


def test_in_the_client_only_sealed_requests_have_another_way_than_requests() -> None:
    """Attestation, keys, lists and collateral go through `net.calls` or a session of `requests`."""
    client = ROOT / "py/confide/client"
    users = {
        str(path.relative_to(client))
        for path in client.rglob("*.py")
        if any(
            name in path.read_text()
            for name in ("net.http_client", "http.client", "urllib.request", "import socket")
        )
    }
    assert users == {"proxy/answer.py", "proxy/completions.py", "proxy/program.py"}
