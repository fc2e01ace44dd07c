"""Maps whose keys a table lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jsonschema
import pytest

from measure.declare import Keyed, Wire, kinds_of
from measure.errors import FieldError
from measure.kinds import Anything, Hex, Integer, ListOf


@dataclass(frozen=True)
class Sample:
    """A message with one field."""

    length: Annotated[int, Integer(1, 8), Wire("size")]


ALL = Keyed({"bootloader": Integer(maximum=255), "key": Hex(1)})
SOME = Keyed({"milan": Integer(), "genoa": Integer()}, required=False)


def test_decodes_to_a_dict_in_the_order_of_the_table() -> None:
    assert list(ALL.decode({"key": "ab", "bootloader": 3}, "the map").items()) == [
        ("bootloader", 3),
        ("key", b"\xab"),
    ]
    assert ALL.encode({"bootloader": 3, "key": b"\xab"}) == {"bootloader": 3, "key": "ab"}
    assert SOME.decode({}, "the map") == {}
    assert SOME.decode({"genoa": 1}, "the map") == {"genoa": 1}


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        (ALL, {"bootloader": 3}, "missing-field"),
        (ALL, {"bootloader": 256, "key": "ab"}, "bad-field"),
        (ALL, {"bootloader": 3, "key": "AB"}, "bad-hex"),
        (ALL, {"bootloader": 3, "key": "ab", "more": 1}, "unknown-field"),
        (ALL, [], "bad-field"),
        (SOME, {"turin": 1}, "unknown-field"),
        (SOME, {"milan": "1"}, "bad-field"),
    ],
)
def test_refuses_what_its_schema_refuses(kind: Keyed, value: object, code: str) -> None:
    with pytest.raises(FieldError) as caught:
        kind.decode(value, "the map")
    assert caught.value.code == code
    assert not jsonschema.Draft202012Validator(kind.schema({})).is_valid(value)


def test_anything_is_kept_as_it_is() -> None:
    values = [None, 1, "x", [2]]
    assert ListOf(Anything()).decode(values, "the list") == tuple(values)
    assert Anything().schema({}) == {}


def test_kinds_of_fields_by_their_names() -> None:
    assert kinds_of(Sample) == {"size": Integer(1, 8)}
