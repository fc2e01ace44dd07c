"""How a policy lists the values that it accepts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from confide.errors import FormatError
from measure.errors import FieldError
from measure.kinds import Anything, ListOf


@dataclass(frozen=True)
class Accepted(ListOf):
    """The accepted values: a list of one kind of item, each once if `unique`; empty accepts none.

    An item of the wrong type or out of bounds, or an item twice, has the error code of the policy.
    Malformed hex keeps its own code.
    """

    code: str = field(kw_only=True)

    def decode(self, value: object, what: str) -> tuple[Any, ...]:
        """A tuple. Raises FormatError with `code`."""
        items = ListOf(Anything(), self.max_items).decode(value, what)
        plain = [item for item in items if isinstance(item, str | int)]
        if self.unique and len(set(plain)) != len(plain):
            raise FormatError(
                self.code, f"{what} is wrong", expected="each item once", seen="an item twice"
            )
        name = f"an item of {what}"
        try:
            return tuple([self.item.decode(item, name) for item in items])
        except FieldError as error:
            if error.code != "bad-field":
                raise
            raise FormatError(
                self.code, error.message, expected=error.expected, seen=error.seen
            ) from error
