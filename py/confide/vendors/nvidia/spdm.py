"""Signed measurements as a GPU sends them: SPDM GET_MEASUREMENTS, request and response.

What travels is the request (37 bytes) followed by the response; the signature covers both. The
response says in its own fields how long each part is, so the signature stands where these end: the
end of a buffer proves nothing.

Source: DMTF DSP0274 (SPDM 1.1), 10.11 (GET_MEASUREMENTS and MEASUREMENTS) and table 46 (DMTF
measurement block). The opaque data is NVIDIA's: little-endian u16 type, u16 size, value.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

from confide.encoding.reader import Reader
from confide.errors import FormatError

NONCE_SIZE = 32
REQUEST_SIZE = 37
DIGEST_SIZE = 48
SIGNATURE_SIZE = 96
MAX_REPORT = 0x2000  # what NVML has room for

_VERSION = 0x11
_MEASUREMENTS = 0x60
# GET_MEASUREMENTS, signed (param 1), all blocks (param 2); the nonce and the slot follow.
_REQUEST_HEADER = bytes([_VERSION, 0xE0, 0x01, 0xFF])
_SLOT = b"\x00"
_DMTF = 1
_BLOCK_HEADER = 7
_VALUE_HEADER = 3


class Field(enum.IntEnum):
    """The types of opaque data that a verifier reads, by NVIDIA's numbers."""

    DRIVER_VERSION = 3
    VBIOS_VERSION = 6
    NVDEC0_STATUS = 11
    CHIP_SKU = 15
    PROJECT = 17
    PROJECT_SKU = 18
    FWID = 20
    PROTECTED_PCIE = 21
    CHIP_INFO = 35
    FEATURE_FLAG = 36


ENABLED = 0xAA
DISABLED = 0x55


@dataclass(frozen=True)
class Report:
    """One signed measurement report.

    `nonce` is the requester's (32 bytes), `measurements` the values of blocks 1, 2, ... in order,
    `opaque` NVIDIA's fields by type, `signed` all that `signature` (96 bytes, r ‖ s) covers.
    """

    nonce: bytes
    measurements: tuple[bytes, ...]
    opaque: Mapping[int, bytes]
    signed: bytes
    signature: bytes

    @classmethod
    def parse(cls, data: bytes) -> Report:
        """Exactly one report. Raises FormatError, for a byte after its end too."""
        report, end = cls.parse_first(data)
        if end != len(data):
            raise _bad("bytes follow after its end", f"{end} bytes", f"{len(data)} bytes")
        return report

    @classmethod
    def parse_first(cls, data: bytes) -> tuple[Report, int]:
        """The report at the start of `data` and the offset at which it ends. Raises FormatError."""
        if len(data) > MAX_REPORT:
            raise _bad("it is too large", f"at most {MAX_REPORT} bytes", f"{len(data)} bytes")
        reader = Reader(data, _bad)
        request = reader.take(REQUEST_SIZE, "the request")
        if request[:4] != _REQUEST_HEADER or request[36:] != _SLOT:
            expected = "a request for all measurements, signed, of slot 0"
            raise _bad("it does not start with its request", expected, request[:4].hex())
        header = reader.take(4, "the response header")
        if header != bytes([_VERSION, _MEASUREMENTS, 0, 0]):
            raise _bad("the response is of another kind", "MEASUREMENTS of SPDM 1.1", header.hex())
        count = reader.number(1, "the number of blocks")
        record = reader.take(
            reader.number(3, "the length of the blocks"), "the list of measurements"
        )
        measurements = _blocks(record, count)
        reader.take(NONCE_SIZE, "the responder's nonce")
        opaque = _fields(
            reader.take(reader.number(2, "the length of the opaque data"), "the opaque data")
        )
        signed = data[: reader.offset]
        signature = reader.take(SIGNATURE_SIZE, "the signature")
        return cls(request[4:36], measurements, opaque, signed, signature), reader.offset

    def text(self, field: Field) -> str:
        """An opaque field that holds ASCII text, without the NULs that end it.

        Raises FormatError if it is absent, empty or holds anything but letters, digits and dots.
        """
        value = self.opaque.get(field, b"").rstrip(b"\0")
        if not re.fullmatch(rb"[0-9A-Za-z.]{1,32}", value):
            raise _bad(
                f"the {_name(field)} is not text",
                "letters, digits and dots",
                value[:32].hex() or "none",
            )
        return value.decode()

    def flag(self, field: Field) -> int | None:
        """An opaque field that holds a small number; None if it is absent. Raises FormatError."""
        value = self.opaque.get(field)
        if value is None:
            return None
        if len(value) not in (1, 2):
            raise _bad(f"the {_name(field)} is too long", "1 or 2 bytes", value[:32].hex())
        return int.from_bytes(value, "little")

    @property
    def vbios_version(self) -> str:
        """Like 96.00.9F.00.01. Raises FormatError if it is absent or has neither encoding.

        Eight bytes are two little-endian words: the four high parts, then the last one. Anything
        else is the text itself.
        """
        value = self.opaque.get(Field.VBIOS_VERSION, b"")
        if len(value) == 8 and value[5:] == b"\0\0\0":
            parts = [*value[3::-1], value[4]]
            return ".".join(f"{part:02X}" for part in parts)
        text = self.text(Field.VBIOS_VERSION).upper()
        if not re.fullmatch(r"[0-9A-F]{2}(\.[0-9A-F]{2}){4}", text):
            raise _bad("the VBIOS version is malformed", "five parts in hex", text)
        return text


def request(nonce: bytes) -> bytes:
    """The 37 bytes that ask for all measurements, signed, with this nonce of 32 bytes."""
    if len(nonce) != NONCE_SIZE:
        raise FormatError(
            "bad-gpu-report",
            "a GPU cannot be asked with a nonce of this size",
            expected=f"{NONCE_SIZE} bytes",
            seen=f"{len(nonce)} bytes",
        )
    return _REQUEST_HEADER + nonce + _SLOT


def _blocks(record: bytes, count: int) -> tuple[bytes, ...]:
    """Blocks numbered 1, 2, ...: u8 index, u8 specification, u16 size; u8 type, u16 size, value."""
    reader = Reader(record, _bad)
    values = []
    for index in range(1, count + 1):
        header = reader.take(_BLOCK_HEADER, f"measurement block {index}")
        size = int.from_bytes(header[2:4], "little")
        value_size = int.from_bytes(header[5:7], "little")
        if header[0] != index or header[1] != _DMTF or size != value_size + _VALUE_HEADER:
            raise _bad("the measurements are not in order", f"DMTF block {index}", header.hex())
        values.append(reader.take(value_size, f"measurement {index}"))
    if reader.left:
        raise _bad("more measurements follow than it counts", f"{count}", f"{reader.left} bytes")
    return tuple(values)


def _fields(opaque: bytes) -> dict[int, bytes]:
    reader = Reader(opaque, _bad)
    fields: dict[int, bytes] = {}
    while reader.left:
        kind = reader.number(2, "the type of an opaque field")
        value = reader.take(reader.number(2, "the size of an opaque field"), f"opaque field {kind}")
        if kind in fields:
            raise _bad("an opaque field comes twice", f"one of type {kind}", "two")
        fields[kind] = value
    return fields


def _name(field: Field) -> str:
    return field.name.lower().replace("_", " ")


def _bad(problem: str, expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-gpu-report",
        f"the GPU's report is malformed: {problem}",
        expected=expected,
        seen=seen,
    )
