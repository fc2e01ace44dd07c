"""What an attacker may do to the records of a sealed answer; each must be an error for the app."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

from confide.errors import PolicyError
from confide.protocol.frames import RECORD_SEALED, clear_error
from tests.support.hostile_gateway import Cut

Alteration = Callable[[Iterable[bytes]], Iterator[bytes]]


def flip(record: bytes, at: int) -> bytes:
    return record[:at] + bytes([record[at] ^ 1]) + record[at + 1 :]


def flipped_bit(records: Iterable[bytes]) -> Iterator[bytes]:
    for number, record in enumerate(records):
        yield flip(record, len(record) // 2) if number == 3 else record


def other_worker_salt(records: Iterable[bytes]) -> Iterator[bytes]:
    for number, record in enumerate(records):
        yield flip(record, 9) if number == 0 else record


def swapped_frames(records: Iterable[bytes]) -> Iterator[bytes]:
    held = b""
    for number, record in enumerate(records):
        if number == 1:
            held = record
        else:
            yield record + (held if number == 2 else b"")


def repeated_frame(records: Iterable[bytes]) -> Iterator[bytes]:
    for number, record in enumerate(records):
        yield record * (2 if number == 2 else 1)


def left_out_frame(records: Iterable[bytes]) -> Iterator[bytes]:
    for number, record in enumerate(records):
        if number != 2:
            yield record


def dropped_final(records: Iterable[bytes]) -> Iterator[bytes]:
    held = b""
    for record in records:
        yield held
        held = record


def cut_final(records: Iterable[bytes]) -> Iterator[bytes]:
    held = b""
    for record in records:
        yield held
        held = record
    yield held[:-1]


def cut_connection(records: Iterable[bytes]) -> Iterator[bytes]:
    for number, record in enumerate(records):
        if number == 3:
            raise Cut
        yield record


def cut_before_final(records: Iterable[bytes]) -> Iterator[bytes]:
    yield from dropped_final(records)
    raise Cut


def trailing_bytes(records: Iterable[bytes]) -> Iterator[bytes]:
    yield from records
    yield b"\0"


def nothing(records: Iterable[bytes]) -> Iterator[bytes]:
    list(records)
    yield from ()


def garbage(records: Iterable[bytes]) -> Iterator[bytes]:
    list(records)
    yield b"\x09" * 600


def huge_record(records: Iterable[bytes]) -> Iterator[bytes]:
    list(records)
    yield struct.pack(">BI", RECORD_SEALED, 1 << 31)


def late_clear_error(records: Iterable[bytes]) -> Iterator[bytes]:
    for number, record in enumerate(records):
        yield clear_error(PolicyError("unknown-key", "made up")) if number == 3 else record


def other_usage(records: Iterable[bytes]) -> Iterator[bytes]:
    for record in records:
        # Token counts are readable, so a gateway can change them; the receipt has the true ones.
        yield record[:-1] + b"\x09" if record[0] == 2 else record


ALTERATIONS: dict[str, Alteration] = {
    alteration.__name__: alteration
    for alteration in (
        flipped_bit,
        other_worker_salt,
        swapped_frames,
        repeated_frame,
        left_out_frame,
        dropped_final,
        cut_final,
        cut_connection,
        cut_before_final,
        trailing_bytes,
        nothing,
        garbage,
        huge_record,
        late_clear_error,
        other_usage,
    )
}
