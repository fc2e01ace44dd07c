"""The two encodings of all our messages: canonical JSON and deterministic CBOR.

Both decoders accept exactly one byte string per value: what they decode encodes to the same bytes.
So a hash of the bytes is a hash of the value, and two implementations cannot read one message in
two ways.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cbor2

from confide.errors import FormatError

Json = None | bool | int | str | list["Json"] | dict[str, "Json"]
Cbor = None | bool | int | str | bytes | list["Cbor"] | dict[str, "Cbor"]

MAX_DEPTH = 16
# Integers on the wire fit in 64 signed bits, so that every language reads them alike.
MAX_INT = 2**63 - 1
DEFAULT_LIMIT = 1 << 20
# Values in one CBOR message, keys and containers among them. An empty list is one byte on the wire
# and some hundred in memory, so a limit on bytes alone would not bound what decoding costs.
MAX_VALUES = 1 << 16


class _NoTags(dict[int, Callable[..., Any]]):
    """Refuses every CBOR tag before its decoder (regular expressions, big floats) runs."""

    def __getitem__(self, tag: int) -> Callable[..., Any]:
        raise ValueError(f"tag {tag} is not allowed")


_NO_TAGS = _NoTags()


def json_encode(value: Json) -> bytes:
    """Canonical JSON: sorted keys, two spaces of indent, ASCII, one newline at the end.

    Raises:
        FormatError: `bad-type` for a value that is not dict, list, str, int, bool or None, an
            integer beyond 64 bits or a lone surrogate; `too-deep` for more than 16 levels.
    """
    _check_types(value, "JSON", ())
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=True, allow_nan=False)
    return text.encode() + b"\n"


def json_decode(data: bytes, *, what: str, limit: int = DEFAULT_LIMIT) -> Json:
    """Read canonical JSON.

    Args:
        data: the document.
        what: names the document in errors ("the manifest").
        limit: its most bytes.

    Raises:
        FormatError: `too-large`, `bad-json`, or `not-canonical` for bytes that `json_encode` does
            not write.
    """
    _check_size(data, what, limit)
    try:
        value: Json = json.loads(data.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise FormatError("bad-json", f"{what} is not JSON", seen=_reason(error)) from error
    if json_encode(value) != data:
        raise FormatError(
            "not-canonical",
            f"{what} is not canonical JSON",
            expected="sorted unique keys, two-space indent, ASCII, one newline at the end",
        )
    return value


def foreign_json(data: bytes, what: str) -> object:
    """The value of JSON in any spelling, whose size the caller has bounded. It may hold floats.

    Raises FormatError `bad-json`, also for what is nested too deep to be read.
    """
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError("bad-json", f"{what} is not JSON", seen=_reason(error)) from error
    return value


def cbor_encode(value: Cbor) -> bytes:
    """Deterministic CBOR (RFC 8949, section 4.2.1) of dict, list, str, bytes, int, bool and None.

    Raises:
        FormatError: `bad-type` for another type, a key that is not text or an integer beyond 64
            bits; `too-deep` for more than 16 levels.
    """
    _check_types(value, "CBOR", (bytes,))
    return cbor2.dumps(value, canonical=True)


def cbor_decode(data: bytes, *, what: str, limit: int = DEFAULT_LIMIT) -> Cbor:
    """Read deterministic CBOR.

    Args:
        data: the message.
        what: names the message in errors ("the join request").
        limit: its most bytes.

    Raises:
        FormatError: `too-large`; `bad-cbor` for tags, indefinite lengths and more than `MAX_VALUES`
            values; `bad-type` for floats and keys that are not text; `not-canonical` for lengths
            and integers that are not shortest, unsorted or double keys, and trailing bytes.
    """
    _check_size(data, what, limit)
    _check_count(data, what)
    try:
        value: Cbor = cbor2.loads(data, semantic_decoders=_NO_TAGS, max_depth=MAX_DEPTH)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise FormatError("bad-cbor", f"{what} is not CBOR", seen=_reason(error)) from error
    if cbor_encode(value) != data:
        raise FormatError(
            "not-canonical",
            f"{what} is not deterministic CBOR",
            expected="shortest lengths, sorted unique text keys, no tags, no trailing bytes",
        )
    return value


def _reason(error: BaseException) -> str:
    # Short, because a parser's message can quote hostile input at length.
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _check_size(data: bytes, what: str, limit: int) -> None:
    if len(data) > limit:
        raise FormatError(
            "too-large",
            f"{what} is too large",
            expected=f"at most {limit} bytes",
            seen=f"{len(data)} bytes",
        )


def _check_count(data: bytes, what: str) -> None:
    """Counts the heads: each value has one, its type and its length or number (RFC 8949, 3)."""
    at = count = 0
    while at < len(data):
        kind, argument = divmod(data[at], 32)
        if argument > 27:
            raise FormatError(
                "bad-cbor",
                f"{what} is not CBOR",
                expected="definite lengths",
                seen=f"byte {data[at]:#04x} at {at}",
            )
        at += 1
        if argument >= 24:
            size = 1 << argument - 24
            argument = int.from_bytes(data[at : at + size])
            at += size
        if kind in (2, 3):  # bytes and text; what is in a list or a map has heads of its own
            at += argument
        count += 1
        if count > MAX_VALUES:
            raise FormatError(
                "bad-cbor",
                f"{what} has too many values",
                expected=f"at most {MAX_VALUES}",
            )


def _check_text(value: str, what: str) -> None:
    # JSON can escape half a surrogate pair, which no UTF-8 can hold and .encode() would trip over.
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise FormatError("bad-type", f"a {what} text holds a lone surrogate")


def _check_types(value: object, what: str, scalars: tuple[type, ...], depth: int = 0) -> None:
    # Exact types: a subclass could encode as something else than what was checked.
    kind = type(value)
    if isinstance(value, str) and kind is str:
        _check_text(value, what)
        return
    if value is None or kind is bool or kind in scalars:
        return
    if kind is int:
        if not -MAX_INT - 1 <= value <= MAX_INT:  # type: ignore[operator]
            raise FormatError("bad-type", f"a {what} integer does not fit in 64 signed bits")
        return
    if depth >= MAX_DEPTH:
        raise FormatError("too-deep", f"a {what} value nests deeper than {MAX_DEPTH} levels")
    if isinstance(value, list) and kind is list:
        for item in value:
            _check_types(item, what, scalars, depth + 1)
        return
    if isinstance(value, dict) and kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise FormatError("bad-type", f"a {what} map key is not text")
            _check_text(key, what)
            _check_types(item, what, scalars, depth + 1)
        return
    raise FormatError(
        "bad-type",
        f"a {what} value has a type that is not allowed",
        expected="map, list, text, integer, boolean or null",
        seen=kind.__name__,
    )
