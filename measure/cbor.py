"""CBOR (RFC 8949): one encoding for what is written, one reading for what is read.

The only module that needs more than the standard library, so others import it where they use it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from measure.errors import FormatError, InputError

try:
    import cbor2
except ModuleNotFoundError:
    raise InputError("CBOR needs the Python package cbor2, version 6 or later") from None

Tag = cbor2.CBORTag

MAX_SIZE = 16 << 20  # bytes; a manifest with a hundred shapes has 100 KiB
MAX_DEPTH = 16


class _PlainTags(dict[int, Callable[[Any, bool], Any]]):
    """Leaves every tag as it is written: no dates, UUIDs or big numbers are made of it."""

    def __getitem__(self, number: int) -> Callable[[Any, bool], Any]:
        return lambda value, _immutable: Tag(number, value)


_PLAIN_TAGS = _PlainTags()


def encode(value: object) -> bytes:
    """Deterministic CBOR (RFC 8949, section 4.2.1)."""
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, file: str) -> Any:
    """The one value in `data`; tags stay `Tag`.

    Other tools do not all sort their keys, so any order is read, but nothing else that leaves a
    choice: a value that does not encode to the same bytes is refused.

    Raises:
        FormatError: no CBOR, a double key, an indefinite or overlong length, trailing bytes,
            nesting deeper than 16.
    """
    if len(data) > MAX_SIZE:
        raise FormatError(
            "too large", file=file, expected=f"at most {MAX_SIZE} bytes", seen=f"{len(data)} bytes"
        )
    try:
        value = cbor2.loads(data, semantic_decoders=_PLAIN_TAGS, max_depth=MAX_DEPTH)
        same = cbor2.dumps(value) == data
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise FormatError(f"not CBOR: {reason}", file=file) from None
    if not same:
        raise FormatError(
            "the CBOR is not in its shortest form",
            file=file,
            expected="shortest definite lengths, no double keys, no trailing bytes",
        )
    return value
