"""DER (X.690), as far as an ECDSA signature needs it: two numbers, each length in one byte."""

from __future__ import annotations

from measure.errors import FormatError
from measure.reader import Reader

_SEQUENCE, _INTEGER = 0x30, 0x02


def ecdsa_signature(der: bytes, size: int, file: str) -> tuple[int, int]:
    """R and s of an ECDSA-Sig-Value (RFC 3279, section 2.2.3): SEQUENCE { INTEGER, INTEGER }.

    Args:
        der: the signature.
        size: bytes in a number of the curve, at most 48.
        file: the name of `der` in errors.

    Raises:
        FormatError: not two positive numbers of at most `size` bytes in DER, and nothing else.
    """
    reader = Reader(der, file)
    if _length(reader, _SEQUENCE, "a sequence") != reader.remaining:
        raise _no_signature(file, 0, "a sequence of all that follows", der[:2])
    r, s = (_number(reader, name, size) for name in ("r", "s"))
    if reader.remaining:
        raise FormatError("bytes after the signature", file=file, offset=reader.offset)
    return r, s


def _number(reader: Reader, name: str, size: int) -> int:
    start = reader.offset
    raw = reader.take(_length(reader, _INTEGER, f"the number {name}"), f"the number {name}")
    value = int.from_bytes(raw, "big")
    # The shortest encoding, with a zero byte only before a set top bit.
    if value == 0 or raw != value.to_bytes(value.bit_length() // 8 + 1, "big"):
        problem = f"{name} is not a positive number in DER"
    elif value.bit_length() > 8 * size:
        problem = f"{name} is too large for P-{8 * size}"
    else:
        return value
    raise FormatError(problem, file=reader.file, offset=start, seen=raw.hex())


def _length(reader: Reader, tag: int, what: str) -> int:
    offset, seen = reader.offset, reader.take(2, what)
    if seen[0] != tag or seen[1] >= 0x80:
        raise _no_signature(reader.file, offset, f"{what}: tag {tag:#04x} and its length", seen)
    return seen[1]


def _no_signature(file: str, offset: int, expected: str, seen: bytes) -> FormatError:
    return FormatError(
        "not an ECDSA signature in DER",
        file=file,
        offset=offset,
        expected=expected,
        seen=seen.hex(),
    )
