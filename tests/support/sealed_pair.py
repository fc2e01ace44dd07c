"""A request and its answer, sealed and opened with one key."""

from __future__ import annotations

from confide.protocol.sealed import (
    Event,
    OpenedRequest,
    RequestOpener,
    RequestSealer,
    ResponseOpener,
    ResponseSealer,
)

KEY = bytes(range(32))
KEY_ID = b"\x07" * 32
PLACE: dict[str, str] = {"method": "POST", "path": "/v1/completions", "model": "tiny"}


def exchange() -> tuple[RequestSealer, OpenedRequest]:
    sealer = RequestSealer(KEY, KEY_ID)
    return sealer, RequestOpener(KEY, KEY_ID).open(sealer.seal(**PLACE, body=b"{}"), **PLACE)


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
        + sealer.usage(3, 4)
        + sealer.final(b"receipt")
    )


def read(opener: ResponseOpener, stream: bytes, step: int = 1 << 30) -> list[Event]:
    events = []
    for at in range(0, len(stream), step):
        events += opener.feed(stream[at : at + step])
    opener.finish()
    return events
