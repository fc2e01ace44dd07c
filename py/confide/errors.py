"""Every error that Confide shows to a person or a program, grouped by whose fault it is.

An error says what went wrong, what was expected, what was seen and what to do next. Its `code` is
stable kebab-case, so programs match on the code and never on the words. No error text may hold a
prompt, a key or a token.
"""

from __future__ import annotations

from collections.abc import Mapping


class ConfideError(Exception):
    """Base class. `str(error)` is one sentence made of all parts that are present."""

    def __init__(
        self, code: str, message: str, *, expected: str = "", seen: str = "", next: str = ""
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.expected = expected
        self.seen = seen
        self.next = next

    def __str__(self) -> str:
        text = self.message.rstrip(".")
        if self.expected:
            text += f"; expected {self.expected}"
        if self.seen:
            text += f"; seen {self.seen}"
        if self.next:
            text += f"; next: {self.next}"
        return text + "."

    def to_dict(self) -> dict[str, str]:
        """The error as it travels in HTTP bodies and in clear error records: strings only."""
        return {
            "code": self.code,
            "message": self.message,
            "expected": self.expected,
            "seen": self.seen,
            "next": self.next,
        }


class FormatError(ConfideError):
    """Malformed bytes: the sender's fault."""


class VerificationError(ConfideError):
    """A cryptographic or measurement check failed: do not trust the peer."""


class PolicyError(ConfideError):
    """Well-formed and authentic, but not allowed."""


class UnavailableError(ConfideError):
    """A peer or a service is not there or not ready: trying again may help."""


class ConfigError(ConfideError):
    """The person who runs this program set something wrong."""


def error_from_dict(value: Mapping[str, str], kind: type[ConfideError]) -> ConfideError:
    """Rebuild a peer's error as `kind`. The text is the peer's word: not authenticated."""
    return kind(
        value["code"],
        value["message"],
        expected=value.get("expected", ""),
        seen=value.get("seen", ""),
        next=value.get("next", ""),
    )
