"""What an engine makes automata of is bounded as it is after repetition."""

from __future__ import annotations

from typing import Any

import pytest

from confide.protocol.routes.schemas import expanded_size
from tests.support.route_requests import CHAT, COMPLETION, read, refusal, refusal_of

TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "string", "maxLength": 200},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
        },
        "a/b~%": {"type": "integer"},
    },
    "anyOf": [{"$ref": "#/$defs/node"}, {"$ref": "#/$defs/a~1b~0%25"}, {"type": "null"}],
}
"""A schema that refers to itself as pydantic's do: each time within a new value."""


def schema(value: Any) -> str:
    """How a schema in response_format is refused: the field is within it."""
    body = {"type": "json_schema", "json_schema": {"name": "x", "schema": value}}
    return refusal(response_format=body).replace("/response_format/json_schema/schema", "", 1)


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"not": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        TREE,
        {},
        {"$ref": "#"} | {"$ref": "#/$defs/a", "$defs": {"a": {}}},
        {"enum": [1, 1.5, None, True, "ü"]},
        nested(32),
        {"maxItems": 65_536},
        {"description": "x" * 50_000},
        {"pattern": "[a-z]{3,8}"},
        {"items": [{"maxLength": 1000}] * 8},
    ],
)
def test_schemas_that_engines_get(value: dict[str, Any]) -> None:
    assert schema(value) == ""
    made = read(
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": value}}
    )
    assert made["response_format"]["json_schema"]["schema"] == value
    for route in (CHAT, COMPLETION):
        assert (
            read(route, structured_outputs={"json": value})["structured_outputs"]["json"] == value
        )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{}", "bad-field "),
        ([], "bad-field "),
        (True, "bad-field "),
        ({"enum": list(range(4095))}, "bad-field /enum/4094"),
        (nested(33), "bad-field " + "/not" * 33),
        ({"enum": ["x" * 1000] * 33}, "bad-field /enum/32"),
        ({"properties": {f"{at:0100d}": {} for at in range(328)}},
         f"bad-field /properties/{'0' * 80}..."),
        ({"items": [{"pattern": "a{600}"}] * 4}, "bad-field /items/3/pattern"),
        ({"items": [{"maxLength": 1000}] * 9}, "bad-field /items/8/maxLength"),
        ({"items": [{"minItems": 10}] * 205}, "bad-field /items/204/minItems"),
        ({"patternProperties": {"^a$": {}}}, "bad-field /patternProperties"),
        ({"properties": {"patternProperties": {}}}, "bad-field /properties/patternProperties"),
        ({"allOf": [{"maxLength": 65_537}]}, "bad-field /allOf/0/maxLength"),
        ({"minItems": 1e9}, "bad-field /minItems"),
        ({"maximum": 2**63}, "bad-field /maximum"),
        ({"maximum": float("1e400")}, "bad-json"),
        ({"const": "\ud800"}, "bad-field /const"),
        ({"\ud800": 1}, "bad-field /\\ud800"),
        ({"pattern": "(a{100}){101}"}, "bad-field /pattern"),
        ({"properties": {"x": {"patternProperties": {"(a{100}){101}": {}}}}},
         "bad-field /properties/x/patternProperties"),
        ({"$ref": "#"}, "bad-field /$ref"),
        ({"$ref": "https://example.com/s"}, "bad-field /$ref"),
        ({"$ref": "other.json#/a"}, "bad-field /$ref"),
        ({"$ref": "#anchor"}, "bad-field /$ref"),
        ({"$ref": "#/nothing"}, "bad-field /$ref"),
        ({"$ref": "#/type", "type": "string"}, "bad-field /$ref"),
        ({"$ref": "#/anyOf/7", "anyOf": [{}]}, "bad-field /$ref"),
        ({"$dynamicRef": "#a"}, "bad-field /$dynamicRef"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
         "bad-field /$defs/a/$ref"),
        ({"$defs": {"a": {"anyOf": [{"allOf": [{"$ref": "#/$defs/a"}]}]}}},
         "bad-field /$defs/a/anyOf/0/allOf/0/$ref"),
        ({"items": {"not": {"$ref": "#/items"}}}, "bad-field /items/not/$ref"),
        ({"anyOf": [{"items": {"$ref": "#"}} for _ in range(513)]}, "bad-field "),
    ],
)  # fmt: skip
def test_schemas_that_no_engine_gets(value: Any, expected: str) -> None:
    assert schema(value) == expected


def test_a_long_chain_of_references_is_followed_without_recursion() -> None:
    chain: dict[str, Any] = {f"a{at}": {"$ref": f"#/$defs/a{at + 1}"} for at in range(500)}
    assert schema({"$defs": chain | {"a500": {}}}) == ""
    assert schema({"$defs": chain | {"a500": {"$ref": "#/$defs/a0"}}}) == "bad-field /$defs/a0/$ref"


def test_schemas_of_tools_are_bounded_alike() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"$ref": "#"}}}
    assert refusal(tools=[tool]) == "bad-field /tools/0/function/parameters/$ref"


LARGE: dict[str, Any] = {"enum": ["x" * 1000] * 20}
PATTERNED: dict[str, Any] = {"patternProperties": {"^x-": {"type": "string"}}}
NAMED = {"type": "function", "function": {"name": "f1"}}


@pytest.mark.parametrize(
    ("parameters", "strict", "fields", "expected"),
    [
        (LARGE, False, {}, ""),
        (LARGE, False, {"tool_choice": "auto"}, ""),
        (LARGE, False, {"tool_choice": "none"}, ""),
        (LARGE, False, {"tool_choice": "required"}, "bad-field /tools"),
        (LARGE, False, {"tool_choice": NAMED}, ""),
        (LARGE, True, {}, "bad-field /tools"),
        (PATTERNED, False, {}, ""),
        (PATTERNED, False, {"tool_choice": "required"}, "bad-field /tools"),
        (PATTERNED, False, {"tool_choice": NAMED}, "bad-field /tools"),
        (PATTERNED, True, {}, "bad-field /tools"),
        ({"items": [{"maxLength": 9999}] * 100}, False, {}, ""),
        ({"items": [{"maxLength": 256}] * 5}, False, {"tool_choice": "required"},
         "bad-field /tools"),
        ({"items": [{"maxLength": 256}] * 4}, False, {"tool_choice": "required"}, ""),
    ],
)  # fmt: skip
def test_tools_that_have_to_be_called_are_one_automaton(
    parameters: dict[str, Any], strict: bool, fields: dict[str, Any], expected: str
) -> None:
    tools = [
        {
            "type": "function",
            "function": {"name": f"f{at}", "parameters": parameters, "strict": strict},
        }
        for at in range(2)
    ]
    assert refusal(tools=tools, **fields) == expected


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        ("", 0),
        ("abc", 3),
        ("a|b*", 2),
        (r"\d{4}-\d{2}", 7),
        ("a{2,5}", 5),
        ("a{3,}", 3),
        ("a{0}", 1),
        ("[^x]{3}", 3),
        (r"[\]a-z]{3}", 3),
        ("(ab){3}", 9),
        ("((a{10}){10}){10}", 1110),
        ("(a{1000}){1000}", 1_001_000),
        ("a{999999999}", 999_999_999),
        ("a{10}{10}{10}", 1000),
        ("(((((", 0),
        (")))", 3),
        ("[aaa", 1),
        ("{2}", 0),
        ("\\", 1),
    ],
)
def test_repetition_is_written_out(pattern: str, size: int) -> None:
    assert expanded_size(pattern) == size


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"regex": "(yes|no){1,3}"}, ""),
        ({"regex": "a{2048}"}, ""),
        ({"regex": "a{2049}"}, "bad-field /structured_outputs/regex"),
        ({"regex": "(a{1000}){1000}"}, "bad-field /structured_outputs/regex"),
        ({"regex": "a" * 1025}, "bad-field /structured_outputs/regex"),
        ({"regex": ""}, "bad-field /structured_outputs/regex"),
        ({"regex": 7}, "bad-field /structured_outputs/regex"),
        ({"choice": ["a"] * 256}, ""),
        ({"choice": ["a"] * 257}, "bad-field /structured_outputs/choice"),
        ({"choice": []}, "bad-field /structured_outputs/choice"),
        ({"choice": ["a" * 64] * 256}, ""),
        ({"choice": ["a" * 65] * 256}, "bad-field /structured_outputs/choice"),
        ({"choice": ["a" * 1025]}, "bad-field /structured_outputs/choice/0"),
        ({"json_object": True}, ""),
        ({"json_object": False}, "bad-field /structured_outputs/json_object"),
        ({"json": "{}"}, "bad-field /structured_outputs/json"),
        ({"grammar": "root ::= 'a'"}, "refused-field /structured_outputs/grammar"),
        ({"structural_tag": "{}"}, "refused-field /structured_outputs/structural_tag"),
        ({"regex": "a", "whitespace_pattern": " *"},
         "refused-field /structured_outputs/whitespace_pattern"),
        # Some see a set that ends at once here, and some one that ends with the pattern.
        ({"regex": "[](a{1000}){1000}]"}, "bad-field /structured_outputs/regex"),
        ({"regex": "[^](a{1000}){1000}]"}, "bad-field /structured_outputs/regex"),
        ({"regex": "a", "_backend": "outlines"}, "unknown-field /structured_outputs/_backend"),
        ({"regex": "a", "choice": ["a"]}, "bad-field /structured_outputs"),
        ({}, "bad-field /structured_outputs"),
        ({"regex": None}, "bad-field /structured_outputs"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("route", [CHAT, COMPLETION], ids=["chat", "completion"])
def test_structured_outputs(route: Any, fields: dict[str, Any], expected: str) -> None:
    assert refusal(route, structured_outputs=fields) == expected


def test_a_count_below_all_numbers_is_refused_by_name() -> None:
    body = b'{"model":"tiny","prompt":"x","structured_outputs":{"json":{"minLength":-1e400}}}'
    assert refusal_of(body, COMPLETION) == "bad-field /structured_outputs/json/minLength"
