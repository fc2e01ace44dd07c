"""A request and its answer, sealed and opened with one worker's key and one share."""

from __future__ import annotations

from typing import Any

from confide.protocol.frames import Event, ResponseSealer
from confide.protocol.opener import ResponseOpener
from confide.protocol.sealed import (
    OpenedRequest,
    RequestContent,
    RequestHeaders,
    RequestKey,
    RequestSealer,
    SealedRequest,
)
from confide.protocol.share import SEALED_SHARE_SIZE
from confide.protocol.usage import TOKEN, Usage

KEY = RequestKey(bytes(range(32)), b"\x05" * 32, b"\x06" * 32, bytes(SEALED_SHARE_SIZE))
HEADERS = RequestHeaders("tiny", b"\x07" * 32, b"\x08" * 32, b"\x09" * 32)
PLACE: dict[str, str] = {"method": "POST", "path": "/v1/completions"}
USAGE = Usage(TOKEN, 3, 4)


def seal(body: bytes = b"{}", counter: int = 0, key: RequestKey = KEY) -> bytes:
    return RequestSealer(key, counter).seal(RequestContent(body), HEADERS, **PLACE)


def open_request(sealed: bytes, **changes: Any) -> OpenedRequest:
    arguments: dict[str, Any] = {
        "worker_key": KEY.worker_key,
        "share": KEY.share,
        "headers": HEADERS,
        **PLACE,
    }
    return SealedRequest.cut(sealed).open(**{**arguments, **changes})


def exchange() -> tuple[RequestSealer, OpenedRequest]:
    sealer = RequestSealer(KEY, 0)
    return sealer, open_request(sealer.seal(RequestContent(b"{}"), HEADERS, **PLACE))


def pair() -> tuple[ResponseSealer, ResponseOpener]:
    sealer, request = exchange()
    return request.response_sealer(), sealer.response_opener()


def records(stream: bytes) -> list[bytes]:
    """A response cut into its records."""
    cut, at = [], 0
    while at < len(stream):
        end = at + 5 + int.from_bytes(stream[at + 1 : at + 5], "big")
        cut.append(stream[at:end])
        at = end
    return cut


def response(sealer: ResponseSealer) -> list[bytes]:
    """start, head, two data, usage, final."""
    return records(
        sealer.head(200, "text/event-stream")
        + sealer.data(b"one")
        + sealer.data(b"two")
        + sealer.usage(USAGE)
        + sealer.final(b"receipt")
    )


def read(opener: ResponseOpener, stream: bytes, step: int = 1 << 30) -> list[Event]:
    events = []
    for at in range(0, len(stream), step):
        events += opener.feed(stream[at : at + step])
    opener.finish()
    return events
