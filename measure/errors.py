"""The errors of this package: what is wrong with an input, for a person.

Each error names the file, the offset in it, what was expected there and what was seen, as far as
they are known, and renders itself as one sentence that a person can act on.
"""

from __future__ import annotations


class MeasureError(Exception):
    """Base class.

    Attributes:
        message: what went wrong, one clause without a full stop.
        file: the name of the input the error is about ("" if there is none).
        offset: byte offset in that input (None if it is about the whole input).
        expected, seen: short renderings of the two values that disagree ("" if not applicable).
    """

    def __init__(
        self,
        message: str,
        *,
        file: str = "",
        offset: int | None = None,
        expected: str = "",
        seen: str = "",
    ) -> None:
        self.message = message
        self.file = file
        self.offset = offset
        self.expected = expected
        self.seen = seen
        super().__init__(message)

    def __str__(self) -> str:
        place = self.file
        if self.offset is not None:
            place += f" at offset {self.offset:#x}" if place else f"offset {self.offset:#x}"
        text = f"{place}: {self.message}" if place else self.message
        if self.expected:
            text += f"; expected {self.expected}"
        if self.seen:
            text += f"{',' if self.expected else ';'} seen {self.seen}"
        return text


class FormatError(MeasureError):
    """The input's bytes do not follow their format (truncated, out of bounds, wrong magic, ...)."""


class FieldError(FormatError):
    """A message is not of the form that is declared for it.

    Attributes:
        code: what is wrong, for programs: `missing-field`, `unknown-field`, `bad-field`, `bad-name`
            or `bad-hex`.
    """

    def __init__(self, code: str, message: str, *, expected: str = "", seen: str = "") -> None:
        super().__init__(message, expected=expected, seen=seen)
        self.code = code


class UnsupportedError(MeasureError):
    """The input is well formed, but this package cannot predict what it does when it boots."""


class NotEventLogError(FormatError):
    """The input is something else than an event log."""


class NotCryptoAgileError(FormatError):
    """The event log is in the SHA-1-only TPM 1.2 format, which holds no SHA-256 digests."""


class InputError(MeasureError):
    """A file cannot be read or written, or command line arguments do not go together."""
