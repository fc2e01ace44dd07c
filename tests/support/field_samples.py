"""Requests that together have every field that an engine gets, for the tests that send them.

`UNLIKE` are those that the CPU's engine refuses by its own answer: no model of the tests has what
they need. An engine that ends of one of them is a defect like of any other.
"""

from __future__ import annotations

from typing import Any

from confide.protocol.routes.fields import Passed
from confide.protocol.routes.kinds import Kind
from confide.protocol.routes.table import SEALED
from tests.support.api_page import rows

CHAT, COMPLETION = SEALED["/v1/chat/completions"], SEALED["/v1/completions"]
HELLO = {"role": "user", "content": "hello"}
CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Bern", "Rome"]}},
    "required": ["city"],
}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "of a city", "parameters": CITY, "strict": True},
}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Bern"}'},
}

Sample = dict[str, Any]

SHARED: list[Sample] = [
    {
        "frequency_penalty": 0.1,
        "presence_penalty": 0.1,
        "repetition_penalty": 1.1,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.01,
        "seed": 7,
        "n": 2,
    },
    {"logit_bias": {"7": 1}, "bad_words": ["x"], "stop": ["END"], "stop_token_ids": [3]},
    {"allowed_token_ids": [65, 66, 67], "max_tokens": 4, "min_tokens": 2, "ignore_eos": True},
    {"stop": "a", "include_stop_str_in_output": True},
    {"repetition_detection": {"max_pattern_size": 8, "min_pattern_size": 1, "min_count": 4}},
    {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    {"cache_salt": "0123456789abcdef0123456789abcdef"},
    {"return_token_ids": True},
    {"add_special_tokens": True, "truncate_prompt_tokens": 8, "skip_special_tokens": False},
    {"spaces_between_special_tokens": False, "max_tokens": 2},
    {"response_format": {"type": "text"}},
    {"response_format": {"type": "json_object"}, "max_tokens": 8},
    {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "city", "description": "one", "schema": CITY, "strict": True},
        }
    },
    {
        "structured_outputs": {
            "json": CITY,
            "disable_any_whitespace": True,
            "disable_additional_properties": True,
        }
    },
    {"structured_outputs": {"regex": "[ab]{2,4}"}},
    {"structured_outputs": {"choice": ["yes", "no"]}},
    {"structured_outputs": {"json_object": True}, "max_tokens": 8},
]

CHATS: list[Sample] = [
    {"logprobs": True, "top_logprobs": 2, "return_tokens_as_token_ids": True},
    {"max_completion_tokens": 4, "include_reasoning": False},
    {
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "developer", "content": [{"type": "text", "text": "be short"}]},
            HELLO | {"name": "alice"},
            {
                "role": "assistant",
                "content": [{"type": "refusal", "refusal": "no"}],
                "reasoning": "why not",
                "reasoning_content": "why not",
                "tool_calls": [CALL],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        ],
        "tools": [TOOL],
        "tool_choice": "none",
        "parallel_tool_calls": False,
    },
    {"add_generation_prompt": True, "documents": [{"title": "one", "text": "two"}]},
    {
        "messages": [HELLO, {"role": "assistant", "content": "It"}],
        "add_generation_prompt": False,
        "continue_final_message": True,
    },
    {
        "chat_template_kwargs": {
            "enable_thinking": False,
            "thinking": False,
            "clear_thinking": False,
            "preserve_thinking": False,
            "truncate_history_thinking": False,
            "force_nonempty_content": False,
            "low_effort": False,
            "tools_in_user_message": False,
            "reasoning_effort": "low",
        },
        "reasoning_effort": "low",
    },
]

COMPLETIONS: list[Sample] = [
    {"logprobs": 2, "return_tokens_as_token_ids": True},
    {"prompt": ["one", "two"], "echo": True},
    {"prompt": [65, 66]},
    {"prompt": [[65, 66], [67]]},
]

UNLIKE: dict[str, list[Sample]] = {
    CHAT.path: [
        {"tools": [TOOL], "tool_choice": "auto"},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
        {"thinking_token_budget": 4},
    ],
    COMPLETION.path: [],
}

SAMPLES: dict[str, list[Sample]] = {
    CHAT.path: [{"messages": [HELLO], **sample} for sample in SHARED + CHATS],
    COMPLETION.path: [{"prompt": "hello", **sample} for sample in SHARED + COMPLETIONS],
}
"""For each route, requests without the model's name. The engine answers each with 200."""


def paths_of(value: Any, path: str = "") -> set[str]:
    """The fields in a value, as `rows` names them."""
    match value:
        case dict():
            below = {f"{path}/{name}": item for name, item in value.items()}
            within = [{name} | paths_of(item, name) for name, item in below.items()]
        case list():
            within = [paths_of(item, f"{path}/*") for item in value]
        case _:
            within = []
    return set().union(*within)


def passed_paths(kind: Kind) -> set[str]:
    """Every field that the engine gets of a request of this kind."""
    return {path for path, known in rows(kind) if isinstance(known, Passed)}
