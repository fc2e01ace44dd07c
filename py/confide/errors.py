"""Every error that Confide shows to a person or a program. Its class says who has to act.

An error says what went wrong, what was expected, what was seen and what to do next. Its `code` is
stable kebab-case: programs match on the code, never on the words. Each room declares its codes in
`codes.py`; docs/errors.md lists them. No error text may hold a prompt, a key or a token.
"""

from __future__ import annotations

from measure.printable import printable

MAX_PART = 1600
"""Bytes of one text of an error on its way to a peer. Four and a code fit into 8 KiB."""


class ConfideError(Exception):
    """Base class. `str(error)` is one sentence made of all parts that are present."""

    status: int = 500
    """HTTP status of an error of this class, unless its code has a status of its own."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        expected: str = "",
        seen: str = "",
        next: str = "",
        retry_after: int = 0,
    ) -> None:
        """`retry_after` are the seconds after which to ask again; 0: its `Code` says it."""
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.expected = expected
        self.seen = seen
        self.next = next
        self.retry_after = retry_after

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
        """The error as it travels in HTTP bodies and in clear error records: printable ASCII.

        It may quote a peer, and its reader takes no control characters.
        """
        return {
            "code": self.code,
            "message": _for_peers(self.message),
            "expected": _for_peers(self.expected),
            "seen": _for_peers(self.seen),
            "next": _for_peers(self.next),
        }


def _for_peers(text: str) -> str:
    return printable(text.encode("ascii", "backslashreplace").decode(), MAX_PART)


class FormatError(ConfideError):
    """The bytes are malformed: the sender has to act."""

    status = 400


class VerificationError(ConfideError):
    """A signature, measurement or certificate is wrong: do not trust the peer."""

    status = 403


class PolicyError(ConfideError):
    """The request is well-formed and authentic, but not allowed."""

    status = 403


class UnavailableError(ConfideError):
    """A peer or a service is unreachable or not ready: trying again may help."""

    status = 503


class ConfigError(ConfideError):
    """An option, a file or the machine is not set up right: the operator has to act."""


class Code:
    """What a room declares about one of its error codes.

    `sentence` says what the code means and what to do. `kinds` are the error classes that carry
    it. `status` is its HTTP status, or None: the class decides. `retry_after` are the seconds after
    which to ask again (RFC 9110, 10.2.3), or 0: nobody can say.
    """

    def __init__(
        self,
        sentence: str,
        *kinds: type[ConfideError],
        status: int | None = None,
        retry_after: int = 0,
    ) -> None:
        self.sentence = sentence
        self.kinds = kinds
        self.status = status
        self.retry_after = retry_after
