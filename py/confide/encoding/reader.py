"""Reads the binary formats that others define: from the front, within bounds, nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from confide.errors import FormatError

Malformed = Callable[[str, str, str], FormatError]
"""Makes a format's error from what is wrong, what was expected and what was seen."""


class Reader:
    """Takes fields off the front of some bytes. Every length is checked against what is left.

    Args:
        data: the whole input.
        malformed: makes the error of this format. Its first argument says what is wrong, such as
            "the header is truncated".
        order: byte order of all numbers.

    Attributes:
        offset: bytes that were taken so far.
    """

    def __init__(
        self, data: bytes, malformed: Malformed, order: Literal["little", "big"] = "little"
    ) -> None:
        self._data = data
        self._malformed = malformed
        self._order: Literal["little", "big"] = order
        self.offset = 0

    @property
    def left(self) -> int:
        """Bytes that were not taken yet."""
        return len(self._data) - self.offset

    def take(self, size: int, what: str) -> bytes:
        """The next `size` bytes; `what` names them in the error, such as "the header"."""
        if size > self.left:
            raise self._malformed(
                f"{what} is truncated",
                f"{size} bytes at offset {self.offset}",
                f"{self.left} bytes",
            )
        self.offset += size
        return self._data[self.offset - size : self.offset]

    def number(self, size: int, what: str) -> int:
        """The next `size` bytes as an unsigned number."""
        return int.from_bytes(self.take(size, what), self._order)

    def zeros(self, size: int, what: str) -> None:
        """The next `size` bytes, which must be zeros."""
        start = self.offset
        data = self.take(size, what)
        if any(data):
            raise self._malformed(
                f"bytes {start:#x} to {self.offset - 1:#x} are not zeros",
                f"zeros, because {what}",
                data.hex()[:80],
            )

    def inner(self, size: int, what: str) -> Reader:
        """A reader of the next `size` bytes, which this one skips."""
        return Reader(self.take(size, what), self._malformed, self._order)

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(self.left, "the rest")

    def end(self) -> None:
        """Nothing may be left."""
        if self.left:
            raise self._malformed(
                "bytes follow after its end", "no more bytes", f"{self.left} trailing bytes"
            )
