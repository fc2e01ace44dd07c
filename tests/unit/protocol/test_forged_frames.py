"""Malformed frames that only a worker with the key could send: they are refused too."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from confide.encoding.canonical import cbor_encode
from confide.errors import ConfideError, FormatError, VerificationError
from confide.protocol.frames import BUCKET, ResponseSealer
from tests.support.sealed_pair import pair, records

HEAD: dict[str, Any] = {"status": 200, "content_type": "a", "length": -1}


def forged(sealer: ResponseSealer, plaintext: bytes) -> bytes:
    payload = sealer._encrypt(sealer._counter.to_bytes(12, "big"), plaintext, b"confide/frame/2")
    sealer._counter += 1
    return b"\x01" + struct.pack(">I", len(payload)) + payload


def frame(kind: int, content: bytes, *, length: int | None = None, size: int = BUCKET) -> bytes:
    prefix = struct.pack(">BI", kind, len(content) if length is None else length)
    return (prefix + content).ljust(size, b"\0")


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        bytes(4),
        frame(3, b"not empty"),
        frame(4, b""),
        frame(255, b""),
        frame(0, cbor_encode({"status": 200, "content_type": "a", "length": -1})),
        frame(1, b"abc", size=BUCKET - 1),
        frame(1, b"abc", size=BUCKET + 1),
        frame(1, b"abc", size=2 * BUCKET),
        frame(1, b"abc", length=2),
        frame(1, b"abc", length=BUCKET),
        frame(1, b"abc", length=0xFFFFFFFF),
        frame(1, b"abc")[:-1] + b"\x01",
    ],
)
def test_malformed_frames(plaintext: bytes) -> None:
    sealer, opener = pair()
    opener.feed(sealer.head(200, "a/b"))
    with pytest.raises(ConfideError):
        opener.feed(forged(sealer, plaintext))


@pytest.mark.parametrize(
    "head",
    [
        {**HEAD, "status": 199},
        {**HEAD, "status": 600},
        {**HEAD, "status": "200"},
        {**HEAD, "content_type": "a\r\nSet-Cookie: x"},
        {**HEAD, "content_type": "a" * 257},
        {**HEAD, "length": -2},
        {**HEAD, "length": (64 << 20) + 1},
        {"status": 200, "content_type": "a"},
        {**HEAD, "more": 1},
    ],
)
def test_malformed_heads(head: Any) -> None:
    sealer, opener = pair()
    start = records(sealer.head(200, "a/b"))[0]
    sealer._counter = 0
    with pytest.raises(FormatError):
        opener.feed(start + forged(sealer, frame(0, cbor_encode(head))))


@pytest.mark.parametrize("kind", [1, 2])
def test_the_first_frame_is_the_head(kind: int) -> None:
    sealer, opener = pair()
    start = records(sealer.head(200, "a/b"))[0]
    sealer._counter = 0
    with pytest.raises(VerificationError):
        opener.feed(start + forged(sealer, frame(kind, b"")))
