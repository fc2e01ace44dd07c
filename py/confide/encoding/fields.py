"""Reading a map field by field, strictly: each field once, each type exact, nothing left over."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import TypeVar, cast

from confide.errors import FormatError

# Names of models, roles and shapes: safe in URLs, HTTP headers, file names and X.509 URIs.
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9.-]*")
MAX_NAME = 64

T = TypeVar("T")


def check_name(value: str, what: str) -> str:
    """Return `value` if it is a name: ^[a-z0-9][a-z0-9.-]*$, at most 64 characters.

    Raises FormatError.
    """
    if len(value) > MAX_NAME or not NAME_PATTERN.fullmatch(value):
        raise FormatError(
            "bad-name",
            f"{what} is not a name",
            expected=f"1 to {MAX_NAME} of a-z 0-9 . - starting with a letter or digit",
            seen=ascii(value[:80]),
        )
    return value


def from_hex(text: str, length: int, what: str) -> bytes:
    """Decode exactly `length` bytes of lower-case hex. Raises FormatError."""
    if not re.fullmatch(r"[0-9a-f]*", text) or len(text) != 2 * length:
        raise FormatError(
            "bad-hex",
            f"{what} is not hex",
            expected=f"{2 * length} lower-case hex digits",
            seen=ascii(text[:80]),
        )
    return bytes.fromhex(text)


class Fields:
    """A decoded map, read with `text`, `integer`, `blob` ... and closed with `done`.

    Every method raises FormatError naming the document and the field. `done` raises if a field was
    never read, so an unknown field is an error and not silently ignored.
    """

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise FormatError("bad-field", f"{what} is not a map", seen=type(value).__name__)
        self._rest: dict[str, object] = dict(value)
        self._what = what

    @property
    def what(self) -> str:
        """The document's name, for errors."""
        return self._what

    def take(self, name: str) -> object:
        """The raw value of a required field."""
        if name not in self._rest:
            raise FormatError("missing-field", f"{self._what} has no field {name!r}")
        return self._rest.pop(name)

    def has(self, name: str) -> bool:
        """Is the field there and not read yet?"""
        return name in self._rest

    def text(self, name: str, *, one_of: Collection[str] = (), max_length: int = 4096) -> str:
        """A text field, of a closed set if `one_of` is given."""
        value = self._typed(name, str)
        if len(value) > max_length:
            raise self._bad(name, f"at most {max_length} characters", f"{len(value)}")
        if one_of and value not in one_of:
            raise self._bad(name, " or ".join(one_of), ascii(value[:80]))
        return value

    def name(self, name: str) -> str:
        """A text field that holds a name (see `check_name`)."""
        return check_name(self._typed(name, str), f"{self._what} field {name!r}")

    def hex(self, name: str, length: int) -> bytes:
        """A text field of exactly `length` bytes as lower-case hex."""
        return from_hex(self._typed(name, str), length, f"{self._what} field {name!r}")

    def blob(self, name: str, *, length: int | None = None, max_length: int = 1 << 20) -> bytes:
        """A byte-string field, of exactly `length` bytes if given."""
        value = self._typed(name, bytes)
        if length is not None and len(value) != length:
            raise self._bad(name, f"{length} bytes", f"{len(value)} bytes")
        if len(value) > max_length:
            raise self._bad(name, f"at most {max_length} bytes", f"{len(value)} bytes")
        return value

    def integer(self, name: str, *, minimum: int = 0, maximum: int = 2**63 - 1) -> int:
        """An integer field within bounds, inclusive."""
        value = self._typed(name, int)
        if not minimum <= value <= maximum:
            raise self._bad(name, f"{minimum} to {maximum}", str(value))
        return value

    def list(self, name: str, *, max_items: int = 1024) -> list[object]:
        """A list field; the caller reads the items."""
        value = cast("list[object]", self._typed(name, list))
        if len(value) > max_items:
            raise self._bad(name, f"at most {max_items} items", f"{len(value)}")
        return value

    def names(self, name: str, *, max_items: int = 1024) -> tuple[str, ...]:
        """A list field of distinct names."""
        items = self.list(name, max_items=max_items)
        for item in items:
            if not isinstance(item, str):
                raise self._bad(name, "a list of names", type(item).__name__)
            check_name(item, f"an item of {self._what} field {name!r}")
        if len(set(cast("list[str]", items))) != len(items):
            raise self._bad(name, "each name once", "a name twice")
        return tuple(cast("list[str]", items))

    def choices(self, name: str, known: Iterable[str]) -> tuple[str, ...]:
        """A list field of some of the known texts, in their order: one choice has one encoding."""
        items, texts = self.list(name), tuple(known)
        chosen = tuple(text for text in texts if text in items)
        if items != list(chosen):
            raise self._bad(name, f"some of these, in order: {' '.join(texts)}", ascii(items)[:200])
        return chosen

    def map(self, name: str) -> Fields:
        """A map field, to be read and closed in turn."""
        return Fields(self.take(name), f"{self._what} field {name!r}")

    def unread(self) -> tuple[str, ...]:
        """The names of the fields that are not read yet."""
        return tuple(self._rest)

    def done(self) -> None:
        """Raise FormatError if a field was not read: it is one that the format does not have."""
        if self._rest:
            unknown = ascii(sorted(self._rest)[0][:80])
            raise FormatError("unknown-field", f"{self._what} has an unknown field", seen=unknown)

    def _typed(self, name: str, kind: type[T]) -> T:
        value = self.take(name)
        # Not isinstance: True is an int to Python, but not to the wire.
        if type(value) is not kind:
            raise self._bad(name, kind.__name__, type(value).__name__)
        return value

    def _bad(self, name: str, expected: str, seen: str) -> FormatError:
        return FormatError(
            "bad-field", f"{self._what} field {name!r} is wrong", expected=expected, seen=seen
        )
