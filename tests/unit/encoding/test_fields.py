"""Fields: exact types, bounds, nothing missing and nothing left over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from confide.encoding.fields import Fields, check_name, from_hex
from confide.errors import FormatError

VALUE = {
    "text": "abc", "name": "a.b-1", "hex": "00ff", "blob": b"\x00\xff", "int": 7,
    "list": [1], "names": ["a", "b"], "choices": ["z", "b"], "map": {"x": 1}, "bool": True,
}  # fmt: skip


def test_reads_everything() -> None:
    fields = Fields(VALUE, "test")
    assert fields.text("text", one_of=("abc",)) == "abc"
    assert fields.name("name") == "a.b-1"
    assert fields.hex("hex", 2) == b"\x00\xff"
    assert fields.blob("blob", length=2) == b"\x00\xff"
    assert fields.integer("int", minimum=7, maximum=7) == 7
    assert fields.list("list") == [1]
    assert fields.names("names") == ("a", "b")
    assert fields.choices("choices", ("z", "x", "y", "b")) == ("z", "b")
    inner = fields.map("map")
    assert inner.integer("x") == 1
    inner.done()
    assert fields.has("bool")
    assert fields.unread() == ("bool",)
    assert fields.take("bool") is True
    fields.done()


@pytest.mark.parametrize(
    "read",
    [
        lambda f: f.text("int"),
        lambda f: f.text("text", one_of=("abd", "ab")),
        lambda f: f.text("text", max_length=2),
        lambda f: f.text("gone"),
        lambda f: f.name("bool"),
        lambda f: f.hex("hex", 1),
        lambda f: f.hex("text", 2),
        lambda f: f.blob("text"),
        lambda f: f.blob("blob", length=3),
        lambda f: f.blob("blob", max_length=1),
        lambda f: f.integer("bool"),
        lambda f: f.integer("int", minimum=8),
        lambda f: f.integer("int", maximum=6),
        lambda f: f.list("map"),
        lambda f: f.list("list", max_items=0),
        lambda f: f.names("list"),
        lambda f: f.names("names", max_items=1),
        lambda f: f.choices("choices", ("b", "z")),
        lambda f: f.choices("choices", ("z",)),
        lambda f: f.choices("list", ("z", "b")),
        lambda f: f.choices("text", ("abc",)),
        lambda f: f.map("list"),
        lambda f: f.done(),
        lambda f: (f.text("text"), f.text("text")),
    ],
)
def test_refuses(read: Callable[[Fields], Any]) -> None:
    with pytest.raises(FormatError):
        read(Fields(VALUE, "test"))


def test_names_refuses_a_name_twice() -> None:
    with pytest.raises(FormatError):
        Fields({"n": ["a", "a"]}, "test").names("n")


@pytest.mark.parametrize("value", [None, [], "x", b"x", 1])
def test_only_maps(value: object) -> None:
    with pytest.raises(FormatError):
        Fields(value, "test")


@pytest.mark.parametrize("name", ["a", "0", "a.b", "a-b", "x" * 64])
def test_names(name: str) -> None:
    assert check_name(name, "test") == name


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "a_b", "a/b", "a\n", "ä", "x" * 65, "a b"])
def test_not_names(name: str) -> None:
    with pytest.raises(FormatError):
        check_name(name, "test")


@pytest.mark.parametrize("text", ["0F", "0", "0g", " 00", "00\n", "0x", "٠٠"])
def test_not_hex(text: str) -> None:
    with pytest.raises(FormatError):
        from_hex(text, 1, "test")
