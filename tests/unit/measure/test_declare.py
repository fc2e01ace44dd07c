"""Declared messages: what is accepted, what is refused and how, and that the schema agrees."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar

import jsonschema
import pytest

from measure.declare import Either, Nested, Wire, decode, encode, json_schema
from measure.errors import FieldError, FormatError
from measure.kinds import (
    Blob,
    Boolean,
    Choices,
    Converted,
    Definitions,
    Hex,
    Integer,
    Kind,
    ListOf,
    MapOf,
    Name,
    NoneAs,
    Optional,
    Schema,
    Text,
    Word,
)


class Color(StrEnum):
    """An enum of texts."""

    RED = "red"
    GREEN = "green"


@dataclass(frozen=True)
class Byte:
    """A least version."""

    minimum: Annotated[int, Integer(maximum=255)]


@dataclass(frozen=True)
class Exact:
    """Listed versions."""

    exact: Annotated[tuple[int, ...], ListOf(Integer(), max_items=2, unique=True)]


@dataclass(frozen=True)
class Sample:
    """Every kind
    once.

    This paragraph is not in the schema.
    """

    SCHEMA_RULES: ClassVar[Schema] = {"minProperties": 3}

    name: Annotated[str, Name(), "its name"]
    digest: Annotated[bytes, Hex(2)]
    count: Annotated[int, Integer(2, 8, multiple_of=2)]
    is_on: Annotated[bool, Boolean()]
    text: Annotated[str, Text(max_length=4, pattern="a|b+")]
    color: Color
    byte: Byte
    version: Annotated[Byte | Exact, Either(Byte, Exact)]
    colors: Annotated[frozenset[Color], Choices(Color, frozenset)]
    registers: Annotated[
        dict[int, bytes],
        MapOf(Converted(Word(("0", "1")), int, str), Hex(1), min_items=1),
        {"required": ["0"]},
    ]
    module: Annotated[tuple[bytes, ...] | None, NoneAs("any", ListOf(Hex(1), min_items=1))]
    reset: Annotated[int | None, NoneAs(None, Integer())]
    sev_snp: Annotated[Byte | None, Optional(Nested(Byte)), Wire("sev-snp")] = None
    format: Annotated[str, Word(("sample/1",))] = field(default="sample/1", init=False)

    def __post_init__(self) -> None:
        if 0 not in self.registers:
            raise FormatError("no register 0")


class Even(Kind):
    """Even numbers, halved."""

    def decode(self, value: object, what: str) -> int:
        return int(Integer(multiple_of=2).decode(value, what) // 2)

    def encode(self, value: int) -> int:
        return value * 2

    def schema(self, definitions: Definitions) -> Schema:
        return {"type": "integer", "multipleOf": 2}


@dataclass(frozen=True)
class Halved:
    """A number."""

    number: Annotated[int, Even()]


MAP: dict[str, Any] = {
    "format": "sample/1",
    "name": "a.b-1",
    "digest": "00ff",
    "count": 4,
    "is_on": True,
    "text": "bb",
    "color": "green",
    "byte": {"minimum": 255},
    "version": {"exact": [1, 2]},
    "colors": ["red"],
    "registers": {"0": "aa", "1": "bb"},
    "module": "any",
    "reset": None,
}
SAMPLE = Sample(
    name="a.b-1",
    digest=b"\0\xff",
    count=4,
    is_on=True,
    text="bb",
    color=Color.GREEN,
    byte=Byte(255),
    version=Exact((1, 2)),
    colors=frozenset({Color.RED}),
    registers={0: b"\xaa", 1: b"\xbb"},
    module=None,
    reset=None,
)
SCHEMA = json_schema(Sample, id="urn:test:sample:1", title="sample")


def accepts(value: object) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(value))


def test_decodes_and_encodes() -> None:
    assert decode(Sample, MAP, "the sample") == SAMPLE
    assert encode(SAMPLE) == MAP
    assert isinstance(decode(Sample, MAP, "the sample").color, Color)
    assert all(type(text) is str for text in encode(SAMPLE)["colors"])
    assert accepts(MAP)


@pytest.mark.parametrize(
    "change",
    [
        {"sev-snp": {"minimum": 3}},
        {"version": {"minimum": 0}},
        {"module": ["01"]},
        {"reset": 7},
        {"colors": []},
        {"colors": ["red", "green"]},
        {"registers": {"0": "aa"}},
    ],
)
def test_other_values(change: dict[str, Any]) -> None:
    value = MAP | change
    assert encode(decode(Sample, value, "the sample")) == value
    assert accepts(value)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"nmae": 1}, "unknown-field", "the sample has an unknown field; seen 'nmae'"),
        ({"sev_snp": {"minimum": 3}}, "unknown-field", "'sev_snp'"),
        ({"sev-snp": None}, "bad-field", "the sample field 'sev-snp' is not a map; seen NoneType"),
        ({"format": "sample/2"}, "bad-field", "field 'format' is wrong; expected sample/1"),
        ({"name": "A"}, "bad-name", "the sample field 'name' is not a name"),
        ({"name": "a" * 65}, "bad-name", "1 to 64"),
        ({"name": 1}, "bad-field", "expected str, seen int"),
        ({"digest": "00FF"}, "bad-hex", "expected 4 lower-case hex digits"),
        ({"digest": "00ff0"}, "bad-hex", "seen '00ff0'"),
        ({"count": 10}, "bad-field", "expected 2 to 8, seen 10"),
        ({"count": 3}, "bad-field", "expected a multiple of 2, seen 3"),
        ({"count": True}, "bad-field", "expected int, seen bool"),
        ({"count": 4.0}, "bad-field", "expected int, seen float"),
        ({"is_on": 1}, "bad-field", "expected bool, seen int"),
        ({"text": "bbbbb"}, "bad-field", "at most 4 characters"),
        ({"text": "ab"}, "bad-field", "text that matches a|b+"),
        ({"text": "b\n"}, "bad-field", "text that matches a|b+"),
        ({"color": "blue"}, "bad-field", "expected red or green, seen 'blue'"),
        ({"byte": []}, "bad-field", "the sample field 'byte' is not a map; seen list"),
        ({"byte": {"minimum": 256}}, "bad-field", "the sample field 'byte' field 'minimum'"),
        ({"byte": {}}, "missing-field", "the sample field 'byte' has no field 'minimum'"),
        ({"version": {}}, "missing-field", "no field 'exact'"),
        ({"version": {"minimum": 1, "exact": [1]}}, "unknown-field", "'exact'"),
        ({"version": {"exact": [1, 1]}}, "bad-field", "an item twice"),
        ({"version": {"exact": [1, 2, 3]}}, "bad-field", "at most 2 items"),
        ({"version": {"exact": ["1"]}}, "bad-field", "an item of the sample field 'version'"),
        ({"colors": ["green", "red"]}, "bad-field", "some of these, in order: red green"),
        ({"colors": ["red", "red"]}, "bad-field", "some of these"),
        ({"registers": {}}, "bad-field", "at least 1 items"),
        ({"registers": {"00": "aa"}}, "bad-field", "a key of the sample field 'registers'"),
        ({"registers": {"0": "a"}}, "bad-hex", "the sample field 'registers' field '0'"),
        ({"module": []}, "bad-field", "at least 1 items"),
        ({"module": None}, "bad-field", "expected list, seen NoneType"),
        ({"reset": "none"}, "bad-field", "expected int, seen str"),
    ],
)
def test_refuses(change: dict[str, Any], code: str, words: str) -> None:
    value = MAP | change
    with pytest.raises(FieldError) as caught:
        decode(Sample, value, "the sample")
    assert caught.value.code == code
    assert words in str(caught.value)
    # What a schema cannot say: 4.0 is no integer, an order, a $ that is the end and nothing else.
    if change not in ({"count": 4.0}, {"colors": ["green", "red"]}, {"text": "b\n"}):
        assert not accepts(value)


@pytest.mark.parametrize("name", sorted(MAP))
def test_every_field_is_required(name: str) -> None:
    value = {key: item for key, item in MAP.items() if key != name}
    with pytest.raises(FieldError, match=f"the sample has no field '{name}'") as caught:
        decode(Sample, value, "the sample")
    assert caught.value.code == "missing-field"
    assert not accepts(value)


def test_not_a_map() -> None:
    with pytest.raises(FieldError, match="the sample is not a map; seen list"):
        decode(Sample, [], "the sample")


def test_rules_of_the_class_hold() -> None:
    value = MAP | {"registers": {"1": "aa"}}
    with pytest.raises(FormatError, match="no register 0"):
        decode(Sample, value, "the sample")
    assert not accepts(value)
    assert SCHEMA["minProperties"] == 3


def test_an_absent_field_is_the_only_spelling_of_its_default() -> None:
    @dataclass(frozen=True)
    class Listed:
        """A list that may be absent."""

        items: Annotated[tuple[int, ...], Optional(ListOf(Integer()))] = ()

    assert encode(Listed()) == {}
    assert decode(Listed, {"items": [1]}, "the list") == Listed((1,))
    with pytest.raises(FieldError, match="expected no such field"):
        decode(Listed, {"items": []}, "the list")


def test_byte_strings() -> None:
    @dataclass(frozen=True)
    class Message:
        """A message of CBOR."""

        nonce: Annotated[bytes, Blob(2)]
        report: Annotated[bytes, Blob(max_size=3)]

    value = {"nonce": b"ab", "report": b""}
    assert encode(decode(Message, value, "m")) == value
    for change in ({"nonce": b"a"}, {"nonce": b"abc"}, {"nonce": "ab"}, {"report": b"abcd"}):
        with pytest.raises(FieldError) as caught:
            decode(Message, value | change, "m")
        assert caught.value.code == "bad-field"
    with pytest.raises(TypeError, match="no JSON Schema"):
        json_schema(Message, id="urn:test", title="test")


def test_the_schema_describes() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["description"] == "Every kind once."
    assert SCHEMA["properties"]["name"]["description"] == "its name"
    assert SCHEMA["properties"]["byte"] == {"$ref": "#/$defs/Byte"}
    assert SCHEMA["properties"]["format"] == {"const": "sample/1"}
    assert "sev-snp" not in SCHEMA["required"]
    assert list(SCHEMA["$defs"]) == ["Byte", "Exact"]


def test_a_bad_declaration_is_an_error_of_the_program() -> None:
    @dataclass(frozen=True)
    class NoKind:
        """A field without a kind."""

        number: int

    @dataclass(frozen=True)
    class NoDefault:
        """An optional field without a default."""

        number: Annotated[int | None, Optional(Integer())]

    class Plain:
        """Not a dataclass."""

    for declared in (NoKind, NoDefault, Plain):
        with pytest.raises(TypeError, match=declared.__name__):
            decode(declared, {}, "m")


def test_a_kind_of_a_formats_own() -> None:
    assert decode(Halved, {"number": 6}, "m") == Halved(3)
    assert encode(Halved(3)) == {"number": 6}


def test_two_messages_of_one_name_have_no_schema() -> None:
    @dataclass(frozen=True)
    class Outer:
        """Holds two messages that one name would stand for."""

        first: Annotated[object, Nested(Byte)]
        second: Annotated[object, Nested(make_dataclass("Byte", []))]

    with pytest.raises(TypeError, match="the same name"):
        json_schema(Outer, id="urn:test", title="test")


def test_errors_name_the_file() -> None:
    with pytest.raises(FieldError, match=r"^a\.json: the sample is not a map") as caught:
        decode(Sample, None, "the sample", file="a.json")
    assert caught.value.file == "a.json"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"count": 10**5000}, "expected 2 to 8, seen a number of more than 64 bits"),
        ({"colors": [10**5000]}, "some of these, in order: red green, seen ['int']"),
        ({10**5000: 1}, "an unknown field; seen a name that is not a text"),
    ],
    ids=["number", "choice", "name"],
)
def test_numbers_that_python_does_not_write(change: dict[Any, Any], text: str) -> None:
    with pytest.raises(FieldError) as caught:
        decode(Sample, MAP | change, "the sample")
    assert text in str(caught.value)
