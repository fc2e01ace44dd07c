"""Reading a map of somebody else's format field by field: each type exact, nothing left over.

Our own messages are declared (`confide.encoding.messages`). `Fields` is for JSON whose spelling
others choose, where a declaration would be longer than the reader: Intel's collateral, with either
case of hex and its own error codes, and a worker's health, of which a gateway reads two fields.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar, cast

from confide.errors import FormatError

T = TypeVar("T")


class Fields:
    """A decoded map, read with `text`, `integer`, `list` ... and closed with `done`.

    Every method raises FormatError, which names the document and the field. `done` raises if a
    field was never read, so an unknown field is an error and not silently ignored.
    """

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise FormatError("bad-field", f"{what} is not a map", seen=type(value).__name__)
        self._rest: dict[str, object] = dict(value)
        self._what = what

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

    def map(self, name: str) -> Fields:
        """A map field, to be read and closed in turn."""
        return Fields(self._take(name), f"{self._what} field {name!r}")

    def unread(self) -> tuple[str, ...]:
        """The names of the fields that are not read yet."""
        return tuple(self._rest)

    def done(self) -> None:
        """Raise FormatError if a field was not read: it is one that the format does not have."""
        if self._rest:
            unknown = ascii(sorted(self._rest)[0][:80])
            raise FormatError("unknown-field", f"{self._what} has an unknown field", seen=unknown)

    def _take(self, name: str) -> object:
        if name not in self._rest:
            raise FormatError("missing-field", f"{self._what} has no field {name!r}")
        return self._rest.pop(name)

    def _typed(self, name: str, kind: type[T]) -> T:
        value = self._take(name)
        # Not isinstance: True is an int to Python, but not to the wire.
        if type(value) is not kind:
            raise self._bad(name, kind.__name__, type(value).__name__)
        return value

    def _bad(self, name: str, expected: str, seen: str) -> FormatError:
        return FormatError(
            "bad-field", f"{self._what} field {name!r} is wrong", expected=expected, seen=seen
        )
