"""The three lists of a chat: messages, their parts, calls, tools and switches of templates."""

from __future__ import annotations

from typing import Any

import pytest

from confide.protocol.routes.chat import TEMPLATE_SWITCHES
from confide.protocol.routes.fields import Passed
from tests.support.route_requests import HELLO, read, refusal

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
