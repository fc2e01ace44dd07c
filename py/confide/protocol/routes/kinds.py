"""Kinds of values in an API's request.

They differ from `measure.kinds`, which read our own messages: the fields are another project's, in
three lists; null counts as absent; an error names the field by its path and never shows a value,
because a value can be a prompt.

`read` returns a new value made of what was checked. Nothing that was not checked is in it. `str` is
the value in words, for errors and for docs/api.md.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from confide.errors import FormatError
from measure.printable import printable

MAX_TEXT = 16 << 20
"""Characters of a text that nothing else bounds: a request's bytes."""

MAX_SHOWN = 80
"""Characters of a name that errors show."""


class RequestFieldError(FormatError):
    """A field of a request is malformed, missing, unknown or refused.

    It is raised where the value is read, with what is said of the field: "is wrong". `within` puts
    the names before it while it passes.
    """

    _path: tuple[str, ...] = ()
    _what = ""

    def within(self, *names: str) -> RequestFieldError:
        """The same error, of a field within the one of these names."""
        self._what = self._what or self.message
        self._path = (*names, *self._path)
        self.message = f"the field {self.pointer} of the request {self._what}"
        return self

    @property
    def pointer(self) -> str:
        """The field as a JSON pointer (RFC 6901), escaped for a terminal: /messages/0/content."""
        return "".join(f"/{_pointed(name)}" for name in self._path)


def bad(expected: str, seen: str) -> RequestFieldError:
    """The error for a value that its kind does not take."""
    return RequestFieldError("bad-field", "is wrong", expected=expected, seen=seen)


class Kind(ABC):
    """How a value looks. `types` are what JSON's parser makes of such a value."""

    types: ClassVar[tuple[type, ...]]

    def read(self, value: Any) -> Any:
        """The value for the engine. Raises RequestFieldError."""
        # Not isinstance: True is an int to Python, but not to JSON.
        if type(value) not in self.types:
            raise bad(str(self), name_of(value))
        return self._read(value)

    def parts(self) -> Iterator[Kind]:
        """The kinds within this one."""
        return iter(())

    @abstractmethod
    def _read(self, value: Any) -> Any: ...

    @abstractmethod
    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Flag(Kind):
    """True or false, or only one of them."""

    types = (bool,)
    only: bool | None = None

    def _read(self, value: bool) -> bool:
        if self.only is not None and value is not self.only:
            raise bad(str(self), "the other one")
        return value

    def __str__(self) -> str:
        return "true or false" if self.only is None else str(self.only).lower()


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number within bounds, inclusive, written without a fraction."""

    types = (int,)
    minimum: int
    maximum: int

    def _read(self, value: int) -> int:
        if not self.minimum <= value <= self.maximum:
            raise bad(str(self), "a number out of these bounds")
        return value

    def __str__(self) -> str:
        return f"a whole number from {_shown(self.minimum)} to {_shown(self.maximum)}"


@dataclass(frozen=True)
class Number(Kind):
    """A number within bounds, inclusive."""

    types = (int, float)
    minimum: float
    maximum: float

    def _read(self, value: float) -> float:
        if not self.minimum <= value <= self.maximum:
            raise bad(str(self), "a number out of these bounds")
        return value

    def __str__(self) -> str:
        return f"a number from {self.minimum:g} to {self.maximum:g}"


@dataclass(frozen=True)
class Text(Kind):
    """A text without lone surrogates; all of it matches `pattern`, if one is given."""

    types = (str,)
    maximum: int = MAX_TEXT
    pattern: str = ""
    minimum: int = 0

    def _read(self, value: str) -> str:
        if not self.minimum <= len(value) <= self.maximum:
            raise bad(str(self), f"{len(value)} characters")
        require_unicode(value)
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise bad(str(self), "another text")
        return value

    def __str__(self) -> str:
        text = "a text"
        if self.maximum != MAX_TEXT:
            text += f" of {self.minimum} to {self.maximum} characters"
        return text + (f" that matches {self.pattern}" if self.pattern else "")


@dataclass(frozen=True, init=False)
class Word(Kind):
    """One of the known texts."""

    types = (str,)
    known: tuple[str, ...]

    def __init__(self, *known: str) -> None:
        object.__setattr__(self, "known", known)

    def _read(self, value: str) -> str:
        if value not in self.known:
            raise bad(str(self), "another text")
        return value

    def __str__(self) -> str:
        return " or ".join(f'"{text}"' for text in self.known)


@dataclass(frozen=True)
class ListOf(Kind):
    """A list of one kind of item."""

    types = (list,)
    item: Kind
    maximum: int
    minimum: int = 0

    def _read(self, value: list[Any]) -> list[Any]:
        if not self.minimum <= len(value) <= self.maximum:
            raise bad(str(self), f"{len(value)} items")
        made = []
        for at, item in enumerate(value):
            try:
                made.append(self.item.read(item))
            except RequestFieldError as error:
                error.within(str(at))
                raise
        return made

    def parts(self) -> Iterator[Kind]:
        """The items' kind."""
        yield self.item

    def __str__(self) -> str:
        return f"a list of {self.minimum} to {self.maximum} items, each {self.item}"


@dataclass(frozen=True)
class MapOf(Kind):
    """A map from texts of one kind to values of one kind."""

    types = (dict,)
    key: Text
    value: Kind
    maximum: int

    def _read(self, value: dict[str, Any]) -> dict[str, Any]:
        if len(value) > self.maximum:
            raise bad(str(self), f"{len(value)} fields")
        made = {}
        for name, item in value.items():
            try:
                made[self.key.read(name)] = self.value.read(item)
            except RequestFieldError as error:
                error.within(name)
                raise
        return made

    def parts(self) -> Iterator[Kind]:
        """The values' kind."""
        yield self.value

    def __str__(self) -> str:
        return f"a map of at most {self.maximum} fields, from {self.key} to {self.value}"


@dataclass(frozen=True, init=False)
class Either(Kind):
    """A value of one of several kinds, told apart by their JSON types."""

    types = (dict, list, str)
    kinds: tuple[Kind, ...]

    def __init__(self, *kinds: Kind) -> None:
        object.__setattr__(self, "kinds", kinds)

    def _read(self, value: object) -> Any:
        for kind in self.kinds:
            if type(value) in kind.types:
                return kind.read(value)
        raise bad(str(self), name_of(value))

    def parts(self) -> Iterator[Kind]:
        """The kinds."""
        yield from self.kinds

    def __str__(self) -> str:
        return ", or ".join(map(str, self.kinds))


@dataclass(frozen=True)
class Anything(Kind):
    """Any value: it goes nowhere."""

    types = (bool, int, float, str, list, dict)

    def _read(self, value: object) -> object:
        return value

    def __str__(self) -> str:
        return "anything"


_JSON_NAMES: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number with a fraction",
    bool: "true or false",
    type(None): "null",
}


def name_of(value: object) -> str:
    """The JSON type of a value, in words."""
    return _JSON_NAMES[type(value)]


def require_unicode(text: str) -> None:
    """Raise RequestFieldError for a lone surrogate: JSON can escape it, UTF-8 cannot hold it."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise bad("Unicode text", "a lone surrogate") from None


def require_finite(number: float) -> None:
    """Raise RequestFieldError for a number that is too large for a float or for 64 bits."""
    if not (math.isfinite(number) if type(number) is float else -(2**63) <= number < 2**63):
        raise bad("a number of 64 bits", "a larger number")


def _pointed(name: str) -> str:
    name = name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}..."
    return printable(name.replace("~", "~0").replace("/", "~1"))


def _shown(number: int) -> str:
    bits = abs(number).bit_length()
    return f"{'-' * (number < 0)}2^63" if bits >= 63 else str(number)
