"""Confidential-computing logs: the ACPI table, and registers under their own names."""

from __future__ import annotations

import hashlib
import struct

import pytest

from measure import ccel, eventlog
from measure.errors import FormatError
from tests.support.measurement import builders


def table(*, technology: int = 2, size: int = 56, revision: int = 1, extra: bytes = b"") -> bytes:
    """The 56 bytes of a CCEL table with a right checksum."""
    data = struct.pack("<4sIBB26s", b"CCEL", size, revision, 0, b"OEM")
    data += struct.pack("<BBHQQ", technology, 0, 0, 65536, 0x7D649000) + extra
    return data[:9] + bytes([-sum(data) & 0xFF]) + data[10:]


def log(events: list[tuple[int, bytes]]) -> eventlog.EventLog:
    data = builders.log_header([(0x0C, 48)])
    for register, digest in events:
        data += struct.pack("<IIIH", register, 0x0D, 1, 0x0C) + digest + bytes(4)
    return eventlog.parse(data)


def test_table() -> None:
    parsed = ccel.parse_table(table(), "t")
    assert parsed == ccel.Table(ccel.Technology.TDX, 0, 65536, 0x7D649000)
    parsed.check_log(bytes(65536), "log")
    with pytest.raises(FormatError, match="at most 65536 bytes"):
        parsed.check_log(bytes(65537), "log")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (table(size=57), "not a CCEL table"),
        (table(revision=2), "not a CCEL table"),
        (table(extra=b"\0"), "not a CCEL table"),
        (b"SSDT" + table()[4:], "not a CCEL table"),
        (table()[:-1] + b"\1", "checksum is wrong"),
        (table(technology=0), "unknown confidential-computing technology"),
        (table(technology=3), "unknown confidential-computing technology"),
    ],
)
def test_damaged_table(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        ccel.parse_table(data, "t")


def test_every_truncation_of_the_table() -> None:
    for size in range(56):
        with pytest.raises(FormatError):
            ccel.parse_table(table()[:size], "t")


def test_registers_of_the_log_are_rtmrs() -> None:
    parsed = log([(1, b"a" * 48), (2, b"b" * 48), (4, b"c" * 48)])
    assert parsed.is_ccel
    extended = {0: b"a", 1: b"b", 3: b"c"}
    assert parsed.rtmrs() == {
        n: hashlib.sha384(bytes(48) + extended[n] * 48).digest() if n in extended else bytes(48)
        for n in range(4)
    }


@pytest.mark.parametrize("register", [0, 5, 7])
def test_another_register_makes_it_a_tpms(register: int) -> None:
    parsed = log([(1, b"a" * 48), (register, b"b" * 48)])
    assert not parsed.is_ccel
    with pytest.raises(FormatError, match="registers 1 to 4"):
        parsed.rtmrs()


def test_another_bank_makes_it_a_tpms() -> None:
    parsed = eventlog.parse(builders.log([(1, 8, b"x")]))
    assert not parsed.is_ccel
