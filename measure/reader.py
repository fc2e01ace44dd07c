"""Bounded little-endian reading: no access outside the input, every failure a FormatError."""

from __future__ import annotations

from measure.errors import FormatError


class Reader:
    """Reads `data[start:end]` from the front.

    Args:
        data: the whole input.
        file: its name, for error messages.
        start, end: the window in bytes; `end=None` means the end of `data`.

    Raises:
        FormatError: when the window, or a later read, leaves the input.
    """

    def __init__(
        self, data: bytes | memoryview, file: str, start: int = 0, end: int | None = None
    ) -> None:
        limit = len(data) if end is None else end
        if not 0 <= start <= limit <= len(data):
            raise FormatError(
                "a range lies outside the input",
                file=file,
                offset=start,
                expected=f"at most {len(data):#x}",
                seen=f"{start:#x}..{limit:#x}",
            )
        self._data = data
        self.file = file
        self.offset = start
        self.end = limit

    @property
    def remaining(self) -> int:
        """Bytes left in the window."""
        return self.end - self.offset

    def take(self, size: int, what: str) -> bytes:
        """The next `size` bytes; `what` names them in the error."""
        if not 0 <= size <= self.remaining:
            raise FormatError(
                f"{what} is truncated",
                file=self.file,
                offset=self.offset,
                expected=f"{size} bytes",
                seen=f"{self.remaining} bytes left",
            )
        chunk = bytes(self._data[self.offset : self.offset + size])
        self.offset += size
        return chunk

    def skip(self, size: int, what: str) -> None:
        """Moves on by `size` bytes without copying them."""
        if not 0 <= size <= self.remaining:
            self.take(size, what)
        self.offset += size

    def number(self, size: int, what: str) -> int:
        """An unsigned little-endian number of `size` bytes."""
        return int.from_bytes(self.take(size, what), "little")

    def u8(self, what: str) -> int:
        """An unsigned little-endian number of 8 bits."""
        return self.number(1, what)

    def u16(self, what: str) -> int:
        """An unsigned little-endian number of 16 bits."""
        return self.number(2, what)

    def u32(self, what: str) -> int:
        """An unsigned little-endian number of 32 bits."""
        return self.number(4, what)

    def u64(self, what: str) -> int:
        """An unsigned little-endian number of 64 bits."""
        return self.number(8, what)
