"""Kinds of values that a declared message holds: how each is checked, read, written, described.

Every kind accepts one Python type exactly (True is an int to Python, but not here) and one spelling
of each value, so that a value has one encoding. `measure.declare` puts kinds together to messages.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from measure.errors import FieldError

Schema = dict[str, Any]
Definitions = dict[type[Any], Schema]

# Names of models, roles and shapes: safe in URLs, HTTP headers, file names and X.509 URIs.
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9.-]*")
_HEX = re.compile(r"[0-9a-f]*")
MAX_NAME = 64
MAX_TEXT = 4096
MAX_BLOB = 1 << 20
MAX_ITEMS = 1024
MAX_INTEGER = 2**63 - 1

T = TypeVar("T")


def bad_field(what: str, expected: str, seen: str) -> FieldError:
    """The error for a value that its kind does not accept; `what` names the field."""
    return FieldError("bad-field", f"{what} is wrong", expected=expected, seen=seen)


class Kind(ABC):
    """How a value is written. A kind of a format's own derives from this."""

    @abstractmethod
    def decode(self, value: object, what: str) -> Any:
        """The value for Python. Raises FieldError, which names `what`."""

    def encode(self, value: Any) -> Any:
        """The plain value that `decode` reads: the same one, if the kind does not say otherwise."""
        return value

    @abstractmethod
    def schema(self, definitions: Definitions) -> Schema:
        """The value's JSON Schema; the schemas of the messages in it go into `definitions`."""


@dataclass(frozen=True)
class Anything(Kind):
    """Any value: what holds it has rules of its own."""

    def decode(self, value: object, what: str) -> Any:
        """The value as it is."""
        return value

    def schema(self, definitions: Definitions) -> Schema:
        """The schema that accepts everything."""
        return {}


@dataclass(frozen=True)
class Boolean(Kind):
    """True or false."""

    def decode(self, value: object, what: str) -> bool:
        """A bool."""
        return _exact(bool, value, what)

    def schema(self, definitions: Definitions) -> Schema:
        """`boolean`."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class Integer(Kind):
    """An integer within bounds, inclusive, and a multiple of `multiple_of`."""

    minimum: int = 0
    maximum: int = MAX_INTEGER
    multiple_of: int = 1

    def decode(self, value: object, what: str) -> int:
        """An int."""
        number = _exact(int, value, what)
        if not self.minimum <= number <= self.maximum:
            # Python writes no number of more than 4,300 digits.
            seen = str(number) if number.bit_length() < 65 else "a number of more than 64 bits"
            raise bad_field(what, f"{self.minimum} to {self.maximum}", seen)
        if number % self.multiple_of:
            raise bad_field(what, f"a multiple of {self.multiple_of}", str(number))
        return number

    def schema(self, definitions: Definitions) -> Schema:
        """`integer`, with the bounds that were given."""
        schema: Schema = {"type": "integer", "minimum": self.minimum}
        if self.maximum != MAX_INTEGER:
            schema["maximum"] = self.maximum
        if self.multiple_of != 1:
            schema["multipleOf"] = self.multiple_of
        return schema


@dataclass(frozen=True)
class Text(Kind):
    """A text of at most `max_length` characters; all of it matches `pattern`, if one is given."""

    max_length: int = MAX_TEXT
    pattern: str = ""

    def decode(self, value: object, what: str) -> str:
        """A str."""
        text = _exact(str, value, what)
        if len(text) > self.max_length:
            raise bad_field(what, f"at most {self.max_length} characters", f"{len(text)}")
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise bad_field(what, f"text that matches {self.pattern}", ascii(text[:80]))
        return text

    def schema(self, definitions: Definitions) -> Schema:
        """`string`."""
        schema: Schema = {"type": "string", "maxLength": self.max_length}
        return schema | ({"pattern": f"^(?:{self.pattern})$"} if self.pattern else {})


@dataclass(frozen=True)
class Word(Kind):
    """One of the known texts, which may be the members of an enum; a constant, if there is one."""

    known: Iterable[str]

    def decode(self, value: object, what: str) -> str:
        """The text, or the member of the enum."""
        text = _exact(str, value, what)
        for known in self.known:
            if text == known:
                return known
        raise bad_field(what, " or ".join(self.known), ascii(text[:80]))

    def encode(self, value: str) -> str:
        """The text, also of an enum's member. What is no text stays as it is."""
        return str(value) if isinstance(value, str) else value

    def schema(self, definitions: Definitions) -> Schema:
        """`enum` or `const`."""
        known = [str(text) for text in self.known]
        return {"const": known[0]} if len(known) == 1 else {"enum": known}


@dataclass(frozen=True)
class Name(Kind):
    """A name: ^[a-z0-9][a-z0-9.-]*$, at most 64 characters."""

    def decode(self, value: object, what: str) -> str:
        """A str. Raises FieldError `bad-name` for a text that is not a name."""
        text = _exact(str, value, what)
        if len(text) > MAX_NAME or not NAME_PATTERN.fullmatch(text):
            raise FieldError(
                "bad-name",
                f"{what} is not a name",
                expected=f"1 to {MAX_NAME} of a-z 0-9 . - starting with a letter or digit",
                seen=ascii(text[:80]),
            )
        return text

    def encode(self, value: str) -> str:
        """The text, also of an enum's member. What is no text stays as it is."""
        return str(value) if isinstance(value, str) else value

    def schema(self, definitions: Definitions) -> Schema:
        """`string` with the pattern."""
        return {"type": "string", "pattern": f"^{NAME_PATTERN.pattern}$", "maxLength": MAX_NAME}


@dataclass(frozen=True)
class Hex(Kind):
    """Exactly `size` bytes as lower-case hex."""

    size: int

    def decode(self, value: object, what: str) -> bytes:
        """`size` bytes. Raises FieldError `bad-hex` for a text that is not hex of that size."""
        text = _exact(str, value, what)
        if len(text) != 2 * self.size or not _HEX.fullmatch(text):
            raise FieldError(
                "bad-hex",
                f"{what} is not hex",
                expected=f"{2 * self.size} lower-case hex digits",
                seen=ascii(text[:80]),
            )
        return bytes.fromhex(text)

    def encode(self, value: bytes) -> str:
        """The digits."""
        return value.hex()

    def schema(self, definitions: Definitions) -> Schema:
        """`string` with the pattern."""
        return {"type": "string", "pattern": f"^[0-9a-f]{{{2 * self.size}}}$"}


@dataclass(frozen=True)
class Blob(Kind):
    """A byte string (CBOR only): exactly `size` bytes, or at most `max_size` if it is None."""

    size: int | None = None
    max_size: int = MAX_BLOB

    def decode(self, value: object, what: str) -> bytes:
        """The bytes."""
        blob = _exact(bytes, value, what)
        if self.size is not None and len(blob) != self.size:
            raise bad_field(what, f"{self.size} bytes", f"{len(blob)} bytes")
        if self.size is None and len(blob) > self.max_size:
            raise bad_field(what, f"at most {self.max_size} bytes", f"{len(blob)} bytes")
        return blob

    def schema(self, definitions: Definitions) -> Schema:
        """None. Raises TypeError: JSON has no byte strings."""
        raise TypeError("a byte string has no JSON Schema: the message is CBOR")


@dataclass(frozen=True)
class ListOf(Kind):
    """A list of one kind of item; each once, if `unique`."""

    item: Kind
    max_items: int = MAX_ITEMS
    min_items: int = 0
    unique: bool = False

    def decode(self, value: object, what: str) -> tuple[Any, ...]:
        """A tuple."""
        items = _exact(list, value, what)
        _check_count(len(items), self.min_items, self.max_items, what)
        name = f"an item of {what}"
        decoded = tuple([self.item.decode(item, name) for item in items])
        if self.unique and len(set(decoded)) != len(decoded):
            raise bad_field(what, "each item once", "an item twice")
        return decoded

    def encode(self, value: Iterable[Any]) -> list[Any]:
        """The items, in their order."""
        return [self.item.encode(item) for item in value]

    def schema(self, definitions: Definitions) -> Schema:
        """`array`."""
        schema: Schema = {"type": "array", "items": self.item.schema(definitions)}
        if self.min_items:
            schema["minItems"] = self.min_items
        schema["maxItems"] = self.max_items
        return schema | ({"uniqueItems": True} if self.unique else {})


@dataclass(frozen=True)
class Choices(Kind):
    """A list of some of the known texts or members of an enum, in their order.

    Decoded, the choice is a tuple, or what `collect` makes of the list.
    """

    known: Iterable[str]
    collect: Callable[[Iterable[str]], Any] = tuple

    def decode(self, value: object, what: str) -> Any:
        """The chosen ones."""
        items = _exact(list, value, what)
        chosen = [text for text in self.known if text in items]
        if items != chosen:
            expected = f"some of these, in order: {' '.join(self.known)}"
            shown = [item if type(item) is str else type(item).__name__ for item in items[:9]]
            raise bad_field(what, expected, ascii(shown)[:200])
        return self.collect(chosen)

    def encode(self, value: Iterable[str]) -> list[str]:
        """The chosen ones, in the order of `known`."""
        chosen = set(value)
        return [str(text) for text in self.known if text in chosen]

    def schema(self, definitions: Definitions) -> Schema:
        """`array` of an `enum`."""
        known = [str(text) for text in self.known]
        rest = {"maxItems": len(known), "uniqueItems": True}
        return {"type": "array", "items": {"enum": known}, **rest}


@dataclass(frozen=True)
class MapOf(Kind):
    """A map from keys of one kind, as texts, to values of one kind."""

    key: Kind
    value: Kind
    max_items: int = MAX_ITEMS
    min_items: int = 0

    def decode(self, value: object, what: str) -> dict[Any, Any]:
        """A dict, in the order of the message."""
        if not isinstance(value, dict):
            raise FieldError("bad-field", f"{what} is not a map", seen=type(value).__name__)
        _check_count(len(value), self.min_items, self.max_items, what)
        name = f"a key of {what}"
        return {
            self.key.decode(key, name): self.value.decode(item, f"{what} field {key!r}")
            for key, item in value.items()
        }

    def encode(self, value: dict[Any, Any]) -> dict[str, Any]:
        """The map."""
        return {self.key.encode(key): self.value.encode(item) for key, item in value.items()}

    def schema(self, definitions: Definitions) -> Schema:
        """`object`."""
        schema: Schema = {
            "type": "object",
            "propertyNames": self.key.schema(definitions),
            "additionalProperties": self.value.schema(definitions),
        }
        return schema | ({"minProperties": self.min_items} if self.min_items else {})


@dataclass(frozen=True)
class Converted(Kind):
    """Another kind's value, as something else in Python: `read` makes it, `write` undoes it.

    `read` accepts every value of `kind`, and no two alike; it may raise an error of its own.
    """

    kind: Kind
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]

    def decode(self, value: object, what: str) -> Any:
        """What `read` makes of it."""
        return self.read(self.kind.decode(value, what))

    def encode(self, value: Any) -> Any:
        """What `kind` writes."""
        return self.kind.encode(self.write(value))

    def schema(self, definitions: Definitions) -> Schema:
        """The schema of `kind`."""
        return self.kind.schema(definitions)


@dataclass(frozen=True)
class NoneAs(Kind):
    """A fixed text, or null, which stands for None, or a value of another kind."""

    spelling: str | None
    kind: Kind

    def decode(self, value: object, what: str) -> Any:
        """None for the text or null."""
        return None if value == self.spelling else self.kind.decode(value, what)

    def encode(self, value: Any) -> Any:
        """The text or null for None."""
        return self.spelling if value is None else self.kind.encode(value)

    def schema(self, definitions: Definitions) -> Schema:
        """One of the two."""
        return {"oneOf": [{"const": self.spelling}, self.kind.schema(definitions)]}


@dataclass(frozen=True)
class Optional(Kind):
    """A field that may be absent; then, and only then, it has the field's default."""

    kind: Kind

    def decode(self, value: object, what: str) -> Any:
        """The value of a field that is there."""
        return self.kind.decode(value, what)

    def encode(self, value: Any) -> Any:
        """As `kind`."""
        return self.kind.encode(value)

    def schema(self, definitions: Definitions) -> Schema:
        """The schema of `kind`."""
        return self.kind.schema(definitions)


def _exact(kind: type[T], value: object, what: str) -> T:
    # Not isinstance: True is an int to Python, but not to the wire.
    if type(value) is not kind:
        raise bad_field(what, kind.__name__, type(value).__name__)
    return value


def _check_count(count: int, minimum: int, maximum: int, what: str) -> None:
    if count > maximum:
        raise bad_field(what, f"at most {maximum} items", f"{count}")
    if count < minimum:
        raise bad_field(what, f"at least {minimum} items", f"{count}")
