"""The three lists: each rule of each field, and what no list has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from confide.protocol.roles import Task
from confide.protocol.routes.fields import Dropped, Object, Passed, Refused, Tagged
from confide.protocol.routes.kinds import Kind
from confide.protocol.routes.table import MODELS, ROUTES, SEALED, Route, encode
from tests.support.route_requests import CHAT, COMPLETION, HELLO, LEAST, read, refusal, refusal_of

BOTH = pytest.mark.parametrize("route", [CHAT, COMPLETION], ids=["chat", "completion"])
FLAGS = (
    "stream", "include_stop_str_in_output", "ignore_eos", "return_tokens_as_token_ids",
    "return_token_ids", "skip_special_tokens", "spaces_between_special_tokens",
    "add_special_tokens",
)  # fmt: skip
CHAT_FLAGS = (
    "logprobs", "parallel_tool_calls", "include_reasoning", "add_generation_prompt",
    "continue_final_message",
)  # fmt: skip


def fields_of(route: Route) -> dict[str, Passed | Dropped | Refused]:
    assert route.body is not None
    return dict(route.body.fields)


def objects(kind: Kind) -> list[Object | Tagged]:
    own = [kind] if isinstance(kind, (Object, Tagged)) else []
    return own + [found for part in kind.parts() for found in objects(part)]


def test_the_routes() -> None:
    assert [(route.method, route.path) for route in ROUTES] == [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("GET", "/v1/models"),
    ]
    assert set(SEALED) == {CHAT.path, COMPLETION.path} and MODELS.body is None
    assert {route.task for route in SEALED.values()} <= set(Task)


@BOTH
def test_what_is_passed_is_made_anew(route: Route) -> None:
    least = LEAST[route.path]
    made = read(route, temperature=1, user="x", seed=None)
    assert made == least | {"temperature": 1}
    assert json.loads(encode(made)) == made
    assert encode({"a": "\u00fc"}) == '{"a":"\u00fc"}'.encode()


@BOTH
@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", ["true", "false", 1, 0, 1.0, [], {}])
def test_flags_are_exact(route: Route, name: str, value: Any) -> None:
    assert refusal(route, **{name: value}) == f"bad-field /{name}"


@pytest.mark.parametrize("name", CHAT_FLAGS)
@pytest.mark.parametrize("value", ["true", 1, 0.0])
def test_flags_of_a_chat_are_exact(name: str, value: Any) -> None:
    assert refusal(CHAT, **{name: value}) == f"bad-field /{name}"
    assert [refusal(CHAT, **{name: good}) for good in (True, False, None)] == ["", "", ""]


NUMBERS: list[tuple[str, Any, Any]] = [
    ("frequency_penalty", [-2, 0.5, 2], [-2.1, 2.1]),
    ("presence_penalty", [-2, 0.5, 2], [-2.1, 2.1]),
    ("repetition_penalty", [0, 1.1, 10], [-0.1, 11]),
    ("temperature", [0, 0.7, 1, 100], [-1, 101]),
    ("top_p", [0, 0.5, 1], [-0.1, 1.1]),
    ("min_p", [0, 0.5, 1], [-0.1, 1.1]),
]
WHOLE: list[tuple[str, Any, Any]] = [
    ("top_k", [-1, 0, 2**31 - 1], [-2, 2**31]),
    ("seed", [-(2**63), 2**63 - 1], [-(2**63) - 1, 2**63, 10**400]),
    ("n", [1, 128], [0, 129, -1]),
    ("max_tokens", [0, 1 << 24], [-1, (1 << 24) + 1]),
    ("min_tokens", [0, 1 << 24], [-1, (1 << 24) + 1]),
    ("truncate_prompt_tokens", [-1, 1 << 24], [-2, (1 << 24) + 1]),
]


@BOTH
@pytest.mark.parametrize(("name", "good", "wrong"), NUMBERS + WHOLE)
def test_numbers_are_exact_and_bounded(route: Route, name: str, good: Any, wrong: Any) -> None:
    for value in (*good, None):
        assert refusal(route, **{name: value}) == ""
    for value in (*wrong, "1", True, [1], {}):
        assert refusal(route, **{name: value}) == f"bad-field /{name}"
    body = json.dumps(LEAST[route.path])[:-1].encode()
    assert refusal_of(body + b', "%s": 1e400}' % name.encode(), route) == f"bad-field /{name}"
    assert refusal_of(body + b', "%s": NaN}' % name.encode(), route) == "bad-json"


@BOTH
@pytest.mark.parametrize("name", [name for name, _, _ in WHOLE])
def test_whole_numbers_have_no_fraction(route: Route, name: str) -> None:
    assert refusal(route, **{name: 1.0}) == f"bad-field /{name}"


SHARED: list[tuple[dict[str, Any], str]] = [
    ({"stop": "x"}, ""),
    ({"stop": ["x"] * 16}, ""),
    ({"stop": []}, ""),
    ({"stop": ["x"] * 17}, "bad-field /stop"),
    ({"stop": ["x"] * 50_000}, "bad-field /stop"),
    ({"stop": ["x", 7]}, "bad-field /stop/1"),
    ({"stop": ""}, "bad-field /stop"),
    ({"stop": "x" * 1025}, "bad-field /stop"),
    ({"stop": {"x": 1}}, "bad-field /stop"),
    ({"stop": "\ud800"}, "bad-field /stop"),
    ({"stop_token_ids": [0, 2**31 - 1]}, ""),
    ({"stop_token_ids": [-1]}, "bad-field /stop_token_ids/0"),
    ({"stop_token_ids": [1] * 257}, "bad-field /stop_token_ids"),
    ({"stop_token_ids": [2**31 - 1], "min_tokens": 1}, "bad-field /stop_token_ids"),
    ({"stop_token_ids": [2**31 - 1], "min_tokens": 0}, ""),
    ({"stop_token_ids": [], "min_tokens": 1}, ""),
    ({"bad_words": ["x"] * 129}, "bad-field /bad_words"),
    ({"bad_words": ["x"] * 128}, ""),
    ({"bad_words": ["x"] * 64, "n": 2}, ""),
    ({"bad_words": ["x"] * 65, "n": 2}, "bad-field /bad_words"),
    ({"allowed_token_ids": [1] * 4097}, "bad-field /allowed_token_ids"),
    ({"allowed_token_ids": []}, "bad-field /allowed_token_ids"),
    ({"logit_bias": {"7": -100, "8": 0.5}}, ""),
    ({"logit_bias": {"x": 1}}, "bad-field /logit_bias/x"),
    ({"logit_bias": {"7": 101}}, "bad-field /logit_bias/7"),
    ({"logit_bias": {"7": None}}, "bad-field /logit_bias/7"),
    ({"logit_bias": {str(at): 1 for at in range(1025)}}, "bad-field /logit_bias"),
    ({"repetition_detection": {"max_pattern_size": 8, "min_count": 2}}, ""),
    ({"repetition_detection": {"max_pattern_size": 65}},
     "bad-field /repetition_detection/max_pattern_size"),
    ({"model": ""}, "bad-field /model"),
    ({"model": None}, "missing-field /model"),
    ({"model": "x" * 65}, "bad-field /model"),
    ({"model": ["tiny"]}, "bad-field /model"),
    ({"cache_salt": ""}, "bad-field /cache_salt"),
    ({"cache_salt": 7}, "bad-field /cache_salt"),
    ({"cache_salt": "x" * 1025}, "bad-field /cache_salt"),
    ({"response_format": {"type": "text"}}, ""),
    ({"response_format": {"type": "json_object"}}, ""),
    ({"response_format": {}}, "missing-field /response_format/type"),
    ({"response_format": {"type": "xml"}}, "bad-field /response_format/type"),
    ({"response_format": {"type": 7}}, "bad-field /response_format/type"),
    ({"response_format": {"type": ["text"]}}, "bad-field /response_format/type"),
    ({"response_format": "text"}, "bad-field /response_format"),
    ({"response_format": {"type": "text", "json_schema": {}}},
     "unknown-field /response_format/json_schema"),
    ({"response_format": {"type": "json_schema"}}, "missing-field /response_format/json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
     "missing-field /response_format/json_schema/name"),
    ({"response_format": {"type": "structural_tag", "format": {}}},
     "refused-field /response_format/type"),
    ({"stream": True, "stream_options": {"include_usage": "false"}},
     "bad-field /stream_options/include_usage"),
    ({"stream": True, "stream_options": "usage"}, "bad-field /stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}},
     "bad-field /stream_options/include_usage"),
    ({"stream": True, "stream_options": {"continuous_usage_stats": "yes"}},
     "bad-field /stream_options/continuous_usage_stats"),
    ({"stream": True, "stream_options": {"x": 1}}, "unknown-field /stream_options/x"),
    ({"stream": True, "stream_options": {"include_obfuscation": False}}, ""),
    ({"stream_options": {"include_usage": True}}, "bad-field /stream_options"),
    ({"stream": False, "stream_options": {}}, "bad-field /stream_options"),
    ({"store": False}, ""),
    ({"store": True}, "bad-field /store"),
    ({"x": None}, "unknown-field /x"),
    ({"a/b~\u00fc": 1}, "unknown-field /a~1b~0\u00fc"),
    ({"\x1b]0;" + "x" * 100: 1}, r"unknown-field /\x1b]0;" + "x" * 76 + "..."),
]  # fmt: skip


@BOTH
@pytest.mark.parametrize(("fields", "expected"), SHARED)
def test_rules_of_both_routes(route: Route, fields: dict[str, Any], expected: str) -> None:
    assert refusal(route, **fields) == expected


@BOTH
def test_each_refused_field_is_refused_by_name(route: Route) -> None:
    names = [name for name, known in fields_of(route).items() if isinstance(known, Refused)]
    assert {"prompt_logprobs", "priority", "request_id", "kv_transfer_params", "vllm_xargs"} < set(
        names
    )
    for name in names:
        assert refusal(route, **{name: 0}) == f"refused-field /{name}"
        assert refusal(route, **{name: None}) == "", "null counts as absent"


@BOTH
def test_what_has_no_effect_does_not_reach_the_engine(route: Route) -> None:
    dropped = {"user": "x", "metadata": {"a": "b"}, "service_tier": "auto", "store": False}
    assert read(route, **dropped) == LEAST[route.path]
    names = {name for name, known in fields_of(route).items() if isinstance(known, Dropped)}
    assert {*dropped, "prompt_cache_key", "safety_identifier"} <= names
    assert read(route, **dict.fromkeys(names)) == LEAST[route.path]


def test_no_chat_asks_for_logprobs_of_its_prompt() -> None:
    """With echo alone vLLM takes its default of top_logprobs, 0, for those of the prompt."""
    assert refusal(CHAT, echo=True) == "refused-field /echo"


COMPLETIONS: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, ""),
    ({"prompt": ["one", "two"]}, ""),
    ({"prompt": [1, 2]}, ""),
    ({"prompt": [[1, 2], [3]]}, ""),
    ({"prompt": []}, "bad-field /prompt"),
    ({"prompt": [[]]}, "bad-field /prompt/0"),
    ({"prompt": ["x", 1]}, "bad-field /prompt/1"),
    ({"prompt": [1, "x"]}, "bad-field /prompt/1"),
    ({"prompt": [1.0]}, "bad-field /prompt/0"),
    ({"prompt": [True]}, "bad-field /prompt/0"),
    ({"prompt": [-1]}, "bad-field /prompt/0"),
    ({"prompt": [[["x"]]]}, "bad-field /prompt/0/0"),
    ({"prompt": ["x"] * 128}, ""),
    ({"prompt": ["x"] * 129}, "bad-field /prompt"),
    ({"prompt": ["x"] * 64, "n": 2}, ""),
    ({"prompt": ["x"] * 65, "n": 2}, "bad-field /n"),
    ({"prompt": [[1]] * 65, "n": 2}, "bad-field /n"),
    ({"prompt": [1] * 200, "n": 128}, ""),
    ({"prompt": ["x"] * 2, "bad_words": ["y"] * 65}, "bad-field /bad_words"),
    ({"prompt": {"text": "x"}}, "bad-field /prompt"),
    ({"prompt": None}, "missing-field /prompt"),
    ({"prompt": "\udc00"}, "bad-field /prompt"),
    ({"prompt_embeds": "AAAA"}, "refused-field /prompt_embeds"),
    ({"suffix": "x"}, "refused-field /suffix"),
    ({"best_of": 1}, ""),
    ({"best_of": 2}, "bad-field /best_of"),
    ({"logprobs": 5}, ""),
    ({"logprobs": True}, "bad-field /logprobs"),
    ({"logprobs": 21}, "bad-field /logprobs"),
    ({"echo": True, "max_tokens": 0}, ""),
    ({"echo": False, "logprobs": 1}, ""),
    ({"echo": True, "logprobs": 0}, "bad-field /echo"),
    ({"echo": "true"}, "bad-field /echo"),
    ({"messages": [HELLO]}, "unknown-field /messages"),
]


@pytest.mark.parametrize(("fields", "expected"), COMPLETIONS)
def test_rules_of_a_completion(fields: dict[str, Any], expected: str) -> None:
    assert refusal(COMPLETION, **fields) == expected


@BOTH
def test_no_error_shows_a_value(route: Route) -> None:
    for name in fields_of(route):
        for value in (
            "the-secret",
            ["the-secret"],
            {"the-secret": "the-secret"},
            [{"type": "the-secret"}],
        ):
            try:
                read(route, **{name: value})
            except Exception as error:
                # A name within an object is shown, because it is what is wrong.
                said = str(error).replace(f"/{name}/the-secret", "")
                assert "the-secret" not in said, name


@BOTH
def test_every_object_within_has_lists(route: Route) -> None:
    assert route.body is not None
    found = objects(route.body)
    assert len(found) > 5
    assert all(isinstance(each, Tagged) or each.fields for each in found)
