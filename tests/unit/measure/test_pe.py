"""PE parser and Authenticode digest, against a second, independent statement of the rule."""

from __future__ import annotations

import hashlib
import struct

import pytest

from measure import pe
from measure.errors import FormatError
from tests.support.measurement import builders

CHECKSUM = 0x40 + 24 + 64
SECURITY = 0x40 + 24 + 112 + 32


def expected_digest(data: bytes, end: int) -> bytes:
    parts = data[:CHECKSUM], data[CHECKSUM + 4 : SECURITY], data[SECURITY + 8 : end]
    return hashlib.sha256(b"".join(parts)).digest()


def test_digest_leaves_out_checksum_security_entry_and_certificates() -> None:
    sections = [(".text", b"code"), (".data", b"data" * 9)]
    plain = builders.pe(sections)
    signed = builders.pe(sections, certificate=b"C" * 40)
    assert pe.parse(plain, "f").authenticode() == expected_digest(plain, len(plain))
    assert pe.parse(signed, "f").authenticode() == pe.parse(plain, "f").authenticode()
    patched = bytearray(plain)
    patched[CHECKSUM : CHECKSUM + 4] = b"\xff" * 4
    assert pe.parse(bytes(patched), "f").authenticode() == pe.parse(plain, "f").authenticode()


def test_trailing_bytes_are_hashed() -> None:
    sections = [(".text", b"code")]
    data = builders.pe(sections, trailing=b"tail of odd size!", certificate=b"C" * 8)
    assert pe.parse(data, "f").authenticode() == expected_digest(data, len(data) - 8)


@pytest.mark.parametrize("offset", [0, 0x41, SECURITY + 8, 0x200, 0x20F])
def test_every_other_byte_counts(offset: int) -> None:
    data = builders.pe([(".text", b"0123456789abcdef")])
    if offset == 0x41:  # in the signature: refused altogether
        with pytest.raises(FormatError):
            pe.parse(data[:offset] + b"X" + data[offset + 1 :], "f")
        return
    changed = bytearray(data)
    changed[offset] ^= 1
    if offset == 0:
        with pytest.raises(FormatError, match="not a PE image"):
            pe.parse(bytes(changed), "f")
        return
    assert pe.parse(bytes(changed), "f").authenticode() != pe.parse(data, "f").authenticode()


def test_sections_are_hashed_in_file_order_whatever_the_table_says() -> None:
    data = bytearray(builders.pe([(".a", b"A" * 8), (".b", b"B" * 8)]))
    table = 0x40 + 24 + 240
    first, second = data[table : table + 40], data[table + 40 : table + 80]
    swapped = bytes(data[:table] + second + first + data[table + 80 :])
    assert pe.parse(swapped, "f").authenticode() == expected_digest(swapped, len(swapped))


def test_content_is_the_virtual_size() -> None:
    image = pe.parse(builders.pe([(".osrel", b"ID=x\n")]), "f")
    assert image.content(image.sections[0]) == b"ID=x\n"


def header_changes() -> list[tuple[int, bytes, str]]:
    table = 0x40 + 24 + 240
    return [
        (0x3C, struct.pack("<I", 1 << 30), "truncated"),
        (0x46, struct.pack("<H", 97), "too many sections"),
        (0x54, struct.pack("<H", 0xFFFF), "outside"),
        (0x58, struct.pack("<H", 0x107), "invalid optional header"),
        (0x58 + 60, struct.pack("<I", 8), "invalid SizeOfHeaders"),
        (0x58 + 60, struct.pack("<I", 1 << 20), "invalid SizeOfHeaders"),
        (SECURITY, struct.pack("<II", 0x200, 4), "certificate table"),
        (table, b"\x80bad", "invalid section name"),
        (table + 20, struct.pack("<I", 0x100), "overlaps"),
        (table + 20, struct.pack("<I", 0xFFFFFFF0), "overlaps"),
        (table + 60, struct.pack("<I", 0x200), "overlaps"),
    ]


@pytest.mark.parametrize(("offset", "value", "message"), header_changes())
def test_malformed_headers(offset: int, value: bytes, message: str) -> None:
    data = builders.pe([(".a", b"A" * 8), (".b", b"B" * 8)])
    with pytest.raises(FormatError, match=message):
        pe.parse(data[:offset] + value + data[offset + len(value) :], "f")


def test_virtual_size_beyond_the_file_is_refused() -> None:
    data = bytearray(builders.pe([(".a", b"A" * 8)]))
    struct.pack_into("<I", data, 0x40 + 24 + 240 + 8, 9)
    image = pe.parse(bytes(data), "f")
    with pytest.raises(FormatError, match="larger in memory"):
        image.content(image.sections[0])


def test_every_truncation_is_refused() -> None:
    data = builders.pe([(".a", b"A" * 8)])
    for size in range(len(data)):
        with pytest.raises(FormatError):
            pe.parse(data[:size], "f")
