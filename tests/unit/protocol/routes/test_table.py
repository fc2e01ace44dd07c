"""The three lists: each rule of each field, and what no list has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from confide.protocol.roles import Task
from confide.protocol.routes.chat import TEMPLATE_SWITCHES
from confide.protocol.routes.fields import Dropped, Object, Passed, Refused, Tagged
from confide.protocol.routes.kinds import Kind
from confide.protocol.routes.table import MODELS, ROUTES, SEALED, Route, encode
from tests.support.route_requests import CHAT, COMPLETION, HELLO, LEAST, read, refusal, refusal_of

BOTH = pytest.mark.parametrize("route", [CHAT, COMPLETION], ids=["chat", "completion"])
FLAGS = (
    "stream", "include_stop_str_in_output", "ignore_eos", "echo", "return_tokens_as_token_ids",
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
    ("prompt_logprobs", [0, 20], [-1, 21]),
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
    ({"bad_words": ["x"] * 129}, "bad-field /bad_words"),
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
    assert {"priority", "request_id", "kv_transfer_params", "vllm_xargs"} < set(names)
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


MESSAGES: list[tuple[Any, str]] = [
    ([], "bad-field /messages"),
    (None, "missing-field /messages"),
    ("hello", "bad-field /messages"),
    (["hello"], "bad-field /messages/0"),
    ([{}], "missing-field /messages/0/role"),
    ([{"role": "user"}], "missing-field /messages/0/content"),
    ([{"role": "user", "content": None}], "missing-field /messages/0/content"),
    ([{"role": "critic", "content": "x"}], "bad-field /messages/0/role"),
    ([{"role": "function", "name": "f", "content": "x"}], "refused-field /messages/0/role"),
    ([HELLO, {"role": "user", "content": 7}], "bad-field /messages/1/content"),
    ([HELLO | {"x": 1}], "unknown-field /messages/0/x"),
    ([HELLO | {"tool_calls": []}], "unknown-field /messages/0/tool_calls"),
    ([HELLO | {"author": {}}], "refused-field /messages/0/author"),
    ([HELLO | {"tools": []}], "refused-field /messages/0/tools"),
    ([{"role": "tool", "content": "x"}], "missing-field /messages/0/tool_call_id"),
    ([{"role": "assistant"}], ""),
    ([{"role": "assistant", "content": None, "audio": {"id": "x"}}],
     "refused-field /messages/0/audio"),
    ([{"role": "assistant", "function_call": {"name": "f", "arguments": ""}}],
     "refused-field /messages/0/function_call"),
    ([{"role": "user", "content": "\ud83d"}], "bad-field /messages/0/content"),
    ([HELLO] * 8193, "bad-field /messages"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "expected"), MESSAGES)
def test_messages(messages: Any, expected: str) -> None:
    assert refusal(messages=messages) == expected


PARTS: list[tuple[Any, str]] = [
    ({"type": "text", "text": "x"}, ""),
    ({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}, ""),
    ({"type": "refusal", "refusal": "no"}, ""),
    ("x", "bad-field "),
    ({"text": "x"}, "missing-field /type"),
    ({"type": "text"}, "missing-field /text"),
    ({"type": "text", "text": ["x"]}, "bad-field /text"),
    ({"type": "text", "text": "x", "image_url": "http://x/"}, "refused-field /image_url"),
    ({"type": "text", "text": "x", "uuid": "x"}, "refused-field /uuid"),
    ({"type": "image_url", "image_url": {"url": "http://x/"}}, "refused-field /type"),
    ({"type": "input_audio", "input_audio": {}}, "refused-field /type"),
    ({"type": "file", "file": {}}, "refused-field /type"),
    ({"type": "prompt_embeds", "data": "x"}, "refused-field /type"),
    ({"type": "image_embeds", "image_embeds": "x"}, "refused-field /type"),
    ({"type": "audio_embeds"}, "refused-field /type"),
    ({"type": "video_embeds"}, "refused-field /type"),
    ({"type": "audio_url"}, "refused-field /type"),
    ({"type": "video_url"}, "refused-field /type"),
    ({"type": "thinking"}, "refused-field /type"),
    ({"type": "tool_reference"}, "refused-field /type"),
]


@pytest.mark.parametrize(("part", "expected"), PARTS)
def test_parts_of_a_message(part: Any, expected: str) -> None:
    code, _, pointer = expected.partition(" ")
    wanted = f"{code} /messages/0/content/1{pointer}" if code else ""
    text = {"type": "text", "text": "x"}
    assert refusal(messages=[{"role": "user", "content": [text, part]}]) == wanted


def test_a_call_and_its_answer() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answered = {"role": "tool", "tool_call_id": "1", "content": "7"}
    made = read(
        messages=[HELLO, {"role": "assistant", "tool_calls": [{**call, "index": 0}]}, answered]
    )
    assert made["messages"][1:] == [{"role": "assistant", "tool_calls": [call]}, answered]


CALLS: list[tuple[dict[str, Any], str]] = [
    ({"id": None}, "missing-field /id"),
    ({"type": None}, "missing-field /type"),
    ({"type": "custom", "custom": {}}, "refused-field /type"),
    ({"function": {"name": "f"}}, "missing-field /function/arguments"),
    ({"function": {"name": "f", "arguments": {}}}, "bad-field /function/arguments"),
    ({"function": {"name": "f g", "arguments": ""}}, "bad-field /function/name"),
    ({"function": {"name": "f", "arguments": "[" * 65}}, "bad-field /function/arguments"),
    ({"function": {"name": "f", "arguments": "{}," * 40_000}}, "bad-field /function/arguments"),
    ({"function": {"name": "f", "arguments": "", "x": 1}}, "unknown-field /function/x"),
]


@pytest.mark.parametrize(("fields", "expected"), CALLS)
def test_calls(fields: dict[str, Any], expected: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}} | fields
    code, _, pointer = expected.partition(" ")
    asked = refusal(messages=[{"role": "assistant", "tool_calls": [call]}])
    assert asked == f"{code} /messages/0/tool_calls/0{pointer}"


def test_arguments_of_all_calls_are_counted_together() -> None:
    function = {"name": "f", "arguments": "0," * 30_000}
    call = {"id": "1", "type": "function", "function": function}
    messages = [{"role": "assistant", "tool_calls": [call]}]
    assert refusal(messages=messages * 2) == ""
    assert refusal(messages=messages * 3) == "bad-field /messages"


def function(**fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **fields}}


CHATS: list[tuple[dict[str, Any], str]] = [
    ({"tools": []}, "bad-field /tools"),
    ({"tools": [function()] * 512}, ""),
    ({"tools": [function()] * 10_000}, "bad-field /tools"),
    ({"tools": [{"type": "custom", "custom": {}}]}, "refused-field /tools/0/type"),
    ({"tools": [{"type": "web_search"}]}, "bad-field /tools/0/type"),
    ({"tools": [{"function": {"name": "f"}}]}, "missing-field /tools/0/type"),
    ({"tools": [{"type": "function"}]}, "missing-field /tools/0/function"),
    ({"tools": [function(name="")]}, "bad-field /tools/0/function/name"),
    ({"tools": [function(strict="yes")]}, "bad-field /tools/0/function/strict"),
    ({"tools": [function(parameters="{}")]}, "bad-field /tools/0/function/parameters"),
    ({"tools": [function(defer_loading=True)]}, "refused-field /tools/0/function/defer_loading"),
    ({"tools": [function(x=1)]}, "unknown-field /tools/0/function/x"),
    ({"tool_choice": "sometimes"}, "bad-field /tool_choice"),
    ({"tool_choice": True}, "bad-field /tool_choice"),
    ({"tool_choice": function()}, ""),
    ({"tool_choice": {"type": "function"}}, "missing-field /tool_choice/function"),
    ({"tool_choice": function(x=1)}, "unknown-field /tool_choice/function/x"),
    ({"tool_choice": {"type": "allowed_tools"}}, "refused-field /tool_choice/type"),
    ({"top_logprobs": 21}, "bad-field /top_logprobs"),
    ({"top_logprobs": -1}, "bad-field /top_logprobs"),
    ({"reasoning_effort": "extreme"}, "bad-field /reasoning_effort"),
    ({"reasoning_effort": "low"}, ""),
    ({"max_completion_tokens": 1.0}, "bad-field /max_completion_tokens"),
    ({"thinking_token_budget": -2}, "bad-field /thinking_token_budget"),
    ({"modalities": ["text"]}, ""),
    ({"modalities": ["text", "audio"]}, "bad-field /modalities"),
    ({"modalities": ["audio"]}, "bad-field /modalities/0"),
    ({"documents": [{"title": "x", "text": "y"}]}, ""),
    ({"documents": [{"title": 7}]}, "bad-field /documents/0/title"),
    ({"documents": [{"a b": "x"}]}, "bad-field /documents/0/a b"),
    ({"documents": [{"x": "y"}] * 513}, "bad-field /documents"),
    ({"chat_template": "{{ 7 }}"}, "refused-field /chat_template"),
    ({"chat_template_kwargs": {"enable_thinking": False}}, ""),
    ({"chat_template_kwargs": {"enable_thinking": "no"}},
     "bad-field /chat_template_kwargs/enable_thinking"),
    ({"chat_template_kwargs": {"reasoning_effort": "x"}},
     "bad-field /chat_template_kwargs/reasoning_effort"),
    ({"chat_template_kwargs": {"chat_template": "x"}},
     "unknown-field /chat_template_kwargs/chat_template"),
    ({"chat_template_kwargs": {"tools": []}}, "unknown-field /chat_template_kwargs/tools"),
    ({"chat_template_kwargs": {"add_generation_prompt": True}},
     "unknown-field /chat_template_kwargs/add_generation_prompt"),
    ({"prompt": "x"}, "unknown-field /prompt"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), CHATS)
def test_rules_of_a_chat(fields: dict[str, Any], expected: str) -> None:
    assert refusal(**fields) == expected


def test_switches_of_templates_are_flags_and_words() -> None:
    for name, known in TEMPLATE_SWITCHES.items():
        assert isinstance(known, Passed)
        assert refusal(chat_template_kwargs={name: "{{ 7 }}"}).startswith("bad-field"), name


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
    ({"prompt": ["x"] * 1025}, "bad-field /prompt"),
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
