"""Declared messages on the wire: the two encodings, and errors of our own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest

from confide.encoding.canonical import cbor_encode, json_encode
from confide.encoding.messages import CborMessage, JsonMessage, from_map, read_value, to_map
from confide.errors import FormatError, PolicyError
from measure.kinds import Blob, Converted, Hex, Integer, Name


@dataclass(frozen=True)
class Key(CborMessage, what="the key", limit=64):
    """A message in CBOR."""

    id: Annotated[bytes, Blob(4)]
    lifetime: Annotated[int, Integer(maximum=3600)]


@dataclass(frozen=True)
class Disk(JsonMessage, what="the disk"):
    """A message in JSON."""

    name: Annotated[str, Name()]
    root: Annotated[bytes, Hex(2)]


def test_encodings_and_back() -> None:
    key, disk = Key(b"\1\2\3\4", 7), Disk("base", b"\xab\xcd")
    assert key.encode() == cbor_encode({"id": b"\1\2\3\4", "lifetime": 7})
    assert disk.encode() == json_encode({"name": "base", "root": "abcd"})
    assert (Key.parse(key.encode()), Disk.parse(disk.encode())) == (key, disk)
    assert from_map(Disk, to_map(disk), "the disk") == disk


@pytest.mark.parametrize(
    ("value", "code", "message"),
    [
        ({"id": b"\1\2\3", "lifetime": 7}, "bad-field", "the key field 'id' is wrong"),
        ({"id": b"\1\2\3\4", "lifetime": 3601}, "bad-field", "the key field 'lifetime' is wrong"),
        ({"id": b"\1\2\3\4"}, "missing-field", "the key has no field 'lifetime'"),
        (
            {"id": b"\1\2\3\4", "lifetime": 7, "more": 1},
            "unknown-field",
            "the key has an unknown field",
        ),
        ([], "bad-field", "the key is not a map"),
        ({"id": bytes(99), "lifetime": 7}, "too-large", "the key is too large"),
    ],
)
def test_every_error_is_ours(value: object, code: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        Key.parse(cbor_encode(value))  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.message) == (code, message)


def test_parts_of_an_error_are_kept() -> None:
    with pytest.raises(FormatError) as caught:
        from_map(Disk, {"name": "base", "root": "AB"}, "the disk")
    assert caught.value.to_dict() == {
        "code": "bad-hex",
        "message": "the disk field 'root' is not hex",
        "expected": "4 lower-case hex digits",
        "seen": "'AB'",
        "next": "",
    }


def test_an_error_of_the_format_s_own_passes_through() -> None:
    def refuse(text: str) -> str:
        raise PolicyError("not-allowed", f"{text} is not allowed")

    with pytest.raises(PolicyError, match="x is not allowed"):
        read_value(Converted(Name(), read=refuse, write=str), "x", "the name")
