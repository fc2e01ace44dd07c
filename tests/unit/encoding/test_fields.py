"""Fields: exact types, bounds, nothing missing and nothing left over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from confide.encoding.fields import Fields
from confide.errors import FormatError

VALUE = {"text": "abc", "int": 7, "list": [1], "map": {"x": 1}, "bool": True}


def test_reads_everything() -> None:
    fields = Fields(VALUE, "test")
    assert fields.text("text", one_of=("abc",)) == "abc"
    assert fields.integer("int", minimum=7, maximum=7) == 7
    assert fields.list("list") == [1]
    inner = fields.map("map")
    assert inner.integer("x") == 1
    inner.done()
    assert fields.has("bool")
    assert fields.unread() == ("bool",)
    with pytest.raises(FormatError, match="bool"):
        fields.done()


@pytest.mark.parametrize(
    "read",
    [
        lambda f: f.text("int"),
        lambda f: f.text("text", one_of=("abd", "ab")),
        lambda f: f.text("text", max_length=2),
        lambda f: f.text("gone"),
        lambda f: f.integer("bool"),
        lambda f: f.integer("int", minimum=8),
        lambda f: f.integer("int", maximum=6),
        lambda f: f.list("map"),
        lambda f: f.list("list", max_items=0),
        lambda f: f.map("list"),
        lambda f: f.done(),
        lambda f: (f.text("text"), f.text("text")),
    ],
)
def test_refuses(read: Callable[[Fields], Any]) -> None:
    with pytest.raises(FormatError):
        read(Fields(VALUE, "test"))


@pytest.mark.parametrize("value", [None, [], "x", b"x", 1])
def test_only_maps(value: object) -> None:
    with pytest.raises(FormatError):
        Fields(value, "test")
