"""A message lists its fields once; decoder, encoder and JSON Schema follow from that list.

    @dataclass(frozen=True)
    class Disk:
        '''One disk of a machine.'''

        name: Annotated[str, Name()]
        root_hash: Annotated[bytes, Hex(32), "dm-verity root hash"]
        size: Annotated[int | None, Optional(Integer(maximum=2**40))] = None

    decode(Disk, {"name": "base", "root_hash": "00..."}, "the disk")   # a Disk, or FieldError
    encode(disk)                                                       # the map again
    json_schema(Disk, id="urn:example:disk:1", title="disk")

A message is a dataclass. Each field has a type for mypy and, in `Annotated`, one `Kind`: how the
value is written. A field whose type is itself a declared class or an enum of texts needs none.
Beside the kind may stand, in any order:
- a text: the field's description in the schema;
- `Wire("sev-snp")`: the field's name in the map, where Python cannot spell it;
- a dict: more JSON Schema keywords, for a rule that `__post_init__` checks.

Decoding is strict. Each field is there once and has exactly its type; no field is left over. A
field is absent if and only if its kind is `Optional` and its value is the field's default. A rule
about several fields is a check in `__post_init__`; the class attribute `SCHEMA_RULES` has the JSON
Schema keywords that say the same. A format that needs a kind of its own derives it from `Kind`. A
field with `field(init=False)` is a constant of the format.

`decode` takes and `encode` gives dict, list, str, int, bool and (for CBOR) bytes: reading the bytes
of a message is the caller's part.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from measure.errors import FieldError
from measure.kinds import Definitions, Kind, Optional, Schema, Word, bad_field

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Wire:
    """The name of a field in the map, if it is not the attribute's."""

    name: str


@dataclasses.dataclass(frozen=True)
class Nested(Kind):
    """A map that is a declared message of its own."""

    message: type[Any]

    def decode(self, value: object, what: str) -> Any:
        """An instance of `message`."""
        return _decode(self.message, value, what)

    def encode(self, value: Any) -> dict[str, Any]:
        """The map."""
        return encode(value)

    def schema(self, definitions: Definitions) -> Schema:
        """A reference to the class's own schema, which goes into `definitions`."""
        if self.message not in definitions:
            # Holds the place first: a message may hold messages of its own kind.
            definition = definitions[self.message] = {}
            definition.update(_object(self.message, definitions))
        return {"$ref": f"#/$defs/{self.message.__name__}"}


@dataclasses.dataclass(frozen=True, init=False)
class Either(Kind):
    """One of several messages, told apart by the name of each one's first field."""

    messages: tuple[type[Any], ...]

    def __init__(self, *messages: type[Any]) -> None:
        object.__setattr__(self, "messages", messages)

    def decode(self, value: object, what: str) -> Any:
        """An instance of the first message whose first field is there, else of the last one."""
        chosen = self.messages[-1]
        for message in reversed(self.messages):
            if isinstance(value, dict) and _plan(message)[0].name in value:
                chosen = message
        return _decode(chosen, value, what)

    def encode(self, value: Any) -> dict[str, Any]:
        """The map."""
        return encode(value)

    def schema(self, definitions: Definitions) -> Schema:
        """Exactly one of the messages' schemas."""
        return {"oneOf": [Nested(message).schema(definitions) for message in self.messages]}


@dataclasses.dataclass(frozen=True)
class Keyed(Kind):
    """A map with a kind of its own for each key, decoded to a dict: for keys that a table lists.

    All keys are there if `required`, else any of them.
    """

    kinds: Mapping[str, Kind]
    required: bool = True

    def decode(self, value: object, what: str) -> dict[Any, Any]:
        """A dict, in the order of `kinds`."""
        fields = _map(value, what)
        for name in self.kinds:
            if self.required and name not in fields:
                raise _missing(what, name)
        decoded = {
            name: kind.decode(fields[name], f"{what} field {str(name)!r}")
            for name, kind in self.kinds.items()
            if name in fields
        }
        if len(decoded) != len(fields):
            raise _unknown(what, set(fields) - set(self.kinds))
        return decoded

    def encode(self, value: dict[Any, Any]) -> dict[str, Any]:
        """The map."""
        return {str(name): self.kinds[name].encode(item) for name, item in value.items()}

    def schema(self, definitions: Definitions) -> Schema:
        """`object`."""
        properties = {str(name): kind.schema(definitions) for name, kind in self.kinds.items()}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties) if self.required else [],
            "additionalProperties": False,
        }


def decode(message: type[T], value: object, what: str, *, file: str = "") -> T:
    """The message in a decoded map.

    Args:
        message: a declared dataclass.
        value: the map, of plain values.
        what: names the message in errors ("the join request").
        file: the name of the input that the message is from, for errors.

    Raises:
        FieldError: `missing-field`, `unknown-field`, `bad-field`, `bad-name` or `bad-hex`.
        Exception: what the `__post_init__` of a message raises.
    """
    try:
        return _decode(message, value, what)
    except FieldError as error:
        error.file = file
        raise


def encode(message: Any) -> dict[str, Any]:
    """The map that `decode` makes `message` of."""
    values: dict[str, Any] = {}
    for field in _plan(type(message)):
        value = getattr(message, field.attribute)
        if not field.is_optional or value != field.default:
            values[field.name] = field.kind.encode(value)
    return values


def json_schema(message: type[Any], *, id: str, title: str) -> Schema:
    """The JSON Schema (2020-12) of a message; `id` is the schema's URI.

    Raises TypeError if two classes in it have the same name, or a field is a byte string.
    """
    definitions: Definitions = {}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": id,
        "title": title,
        **_object(message, definitions),
    }
    named = {nested.__name__: definition for nested, definition in definitions.items()}
    if len(named) != len(definitions):
        raise TypeError(f"two messages in {message.__name__} have the same name")
    return schema | ({"$defs": dict(sorted(named.items()))} if named else {})


def _decode(message: type[T], value: object, what: str) -> T:
    fields = _map(value, what)
    arguments: dict[str, Any] = {}
    found = 0
    plan = _plan(message)
    for field in plan:
        if field.name in fields:
            found += 1
            read = field.kind.decode(fields[field.name], f"{what} field {field.name!r}")
            if field.is_optional and read == field.default:
                raise bad_field(f"{what} field {field.name!r}", "no such field", "its default")
            if field.is_argument:
                arguments[field.attribute] = read
        elif not field.is_optional:
            raise _missing(what, field.name)
    if found != len(fields):
        raise _unknown(what, set(fields) - {field.name for field in plan})
    return message(**arguments)


def kinds_of(message: type[Any]) -> dict[str, Kind]:
    """The kind of each field, by the field's name in the map."""
    return {field.name: field.kind for field in _plan(message)}


@dataclasses.dataclass(frozen=True)
class _Field:
    """One field: `name` in the map, `attribute` in Python; `keywords` are for its schema."""

    name: str
    attribute: str
    kind: Kind
    is_argument: bool
    default: Any
    keywords: Schema
    is_optional: bool


def _map(value: object, what: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise FieldError("bad-field", f"{what} is not a map", seen=type(value).__name__)
    return value


def _missing(what: str, name: str) -> FieldError:
    return FieldError("missing-field", f"{what} has no field {str(name)!r}")


def _unknown(what: str, names: set[Any]) -> FieldError:
    texts = sorted(name for name in names if type(name) is str)
    seen = ascii(texts[0][:80]) if texts else "a name that is not a text"
    return FieldError("unknown-field", f"{what} has an unknown field", seen=seen)


_plans: dict[type[Any], tuple[_Field, ...]] = {}


def _plan(message: type[Any]) -> tuple[_Field, ...]:
    """The fields of a class, worked out once."""
    plan = _plans.get(message)
    if plan is None:
        plan = _plans[message] = _compile(message)
    return plan


def _compile(message: type[Any]) -> tuple[_Field, ...]:
    """Raises TypeError for a class that is not declared as it must be."""
    if not dataclasses.is_dataclass(message):
        raise TypeError(f"{message.__name__} is not a dataclass")
    hints = typing.get_type_hints(message, include_extras=True)
    return tuple(_field(message, field, hints[field.name]) for field in dataclasses.fields(message))


def _field(message: type[Any], field: dataclasses.Field[Any], hint: Any) -> _Field:
    notes: tuple[Any, ...] = ()
    if typing.get_origin(hint) is Annotated:
        hint, *rest = typing.get_args(hint)
        notes = tuple(rest)
    kinds = [note for note in notes if isinstance(note, Kind)] or _implied(hint)
    if len(kinds) != 1:
        raise TypeError(f"{message.__name__}.{field.name} has {len(kinds)} kinds, not one")
    if isinstance(kinds[0], Optional) and field.default is dataclasses.MISSING:
        raise TypeError(f"{message.__name__}.{field.name} is optional and has no default")
    keywords: Schema = {}
    for note in notes:
        if isinstance(note, str):
            keywords["description"] = note
        elif isinstance(note, Mapping):
            keywords |= note
    names = [note.name for note in notes if isinstance(note, Wire)]
    return _Field(
        name=names[0] if names else field.name,
        attribute=field.name,
        kind=kinds[0],
        is_argument=field.init,
        default=field.default,
        keywords=keywords,
        is_optional=isinstance(kinds[0], Optional),
    )


def _implied(hint: Any) -> list[Kind]:
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return [Word(hint)]
    return [Nested(hint)] if dataclasses.is_dataclass(hint) and isinstance(hint, type) else []


def _object(message: type[Any], definitions: Definitions) -> Schema:
    plan = _plan(message)
    return {
        "description": " ".join((inspect.getdoc(message) or "").split("\n\n")[0].split()),
        "type": "object",
        "properties": {f.name: f.kind.schema(definitions) | f.keywords for f in plan},
        "required": [f.name for f in plan if not f.is_optional],
        "additionalProperties": False,
        **getattr(message, "SCHEMA_RULES", {}),
    }
