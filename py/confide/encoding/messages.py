"""Declared messages (`measure.declare`) on our wires: canonical JSON and deterministic CBOR.

    @dataclass(frozen=True)
    class KeyAccepted(CborMessage, what="the key answer", limit=256):
        '''The answer of POST /v1/keys.'''

        key_id: Annotated[bytes, Blob(32)]
        expires_in: Annotated[int, Integer(maximum=3600)]

    KeyAccepted.parse(data)   # a KeyAccepted, or FormatError
    accepted.encode()         # the same bytes again

Here `measure`'s FieldError becomes a FormatError of this package with the same parts.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self, TypeVar

from confide.encoding.canonical import (
    DEFAULT_LIMIT,
    cbor_decode,
    cbor_encode,
    json_decode,
    json_encode,
)
from confide.errors import FormatError
from measure import declare
from measure.errors import FieldError
from measure.kinds import Kind

T = TypeVar("T")


def from_map(message: type[T], value: object, what: str) -> T:
    """The declared message in a decoded map; `what` names it in errors ("the join request").

    Raises FormatError `missing-field`, `unknown-field`, `bad-field`, `bad-name` or `bad-hex`, or
    with the code of a rule of the message's own.
    """
    try:
        return declare.decode(message, value, what)
    except FieldError as error:
        raise _format_error(error) from error


def to_map(message: Any) -> dict[str, Any]:
    """The map that `from_map` reads."""
    return declare.encode(message)


def read_value(kind: Kind, value: object, what: str) -> Any:
    """The Python value of a plain value of this kind. Raises FormatError as `from_map` does."""
    try:
        return kind.decode(value, what)
    except FieldError as error:
        raise _format_error(error) from error


class _Message:
    """What both encodings share: the message's name in errors and its most bytes."""

    _what: ClassVar[str]
    _limit: ClassVar[int]

    def __init_subclass__(cls, *, what: str = "", limit: int = DEFAULT_LIMIT) -> None:
        """Args: `what` names the message ("the join request"), `limit` is its most bytes."""
        super().__init_subclass__()
        cls._what, cls._limit = what, limit


class CborMessage(_Message):
    """Base of a declared message that travels as deterministic CBOR."""

    def encode(self) -> bytes:
        """The message as deterministic CBOR."""
        return cbor_encode(declare.encode(self))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a message. Raises FormatError for all bytes that `encode` does not write."""
        return from_map(cls, cbor_decode(data, what=cls._what, limit=cls._limit), cls._what)


class JsonMessage(_Message):
    """Base of a declared message that travels as canonical JSON."""

    def encode(self) -> bytes:
        """The message as canonical JSON."""
        return json_encode(declare.encode(self))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a message. Raises FormatError for all bytes that `encode` does not write."""
        return from_map(cls, json_decode(data, what=cls._what, limit=cls._limit), cls._what)


def _format_error(error: FieldError) -> FormatError:
    return FormatError(error.code, error.message, expected=error.expected, seen=error.seen)
