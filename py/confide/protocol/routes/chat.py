"""The fields of POST /v1/chat/completions."""

from __future__ import annotations

from typing import Any

from confide.errors import FormatError
from confide.protocol.routes.fields import Dropped, Fields, Object, Passed, Refused, Tagged
from confide.protocol.routes.json_text import require_small
from confide.protocol.routes.kinds import (
    Either,
    Flag,
    Kind,
    ListOf,
    MapOf,
    RequestFieldError,
    Text,
    Whole,
    Word,
    bad,
)
from confide.protocol.routes.sampling import MAX_TOKENS, PROMPT_LOGPROBS, RULES, SHARED
from confide.protocol.routes.schemas import JsonSchema, require_one_automaton

MAX_MESSAGES = 8192
MAX_TOOLS = 512
MAX_CALLS = 512
MAX_DOCUMENTS = 512

TEXT_ONLY = "the engines take text only"
_TEXT_ONLY = Refused(TEXT_ONLY)
_FLAG = Passed(Flag())
_EFFORT = Passed(Word("none", "minimal", "low", "medium", "high", "xhigh", "max"))
_NAME = Text(128, "[A-Za-z0-9_.:/-]*", minimum=1)


class _Arguments(Kind):
    """A call's arguments: JSON as a text. The engine parses it, so it is counted, too."""

    types = (str,)

    def _read(self, value: str) -> str:
        text: str = Text().read(value)
        try:
            require_small(text.encode(), "the text")
        except FormatError as error:
            raise bad(error.expected, "more") from None
        return text

    def __str__(self) -> str:
        return "JSON as a text"


_FUNCTION_CALL = Object(
    {
        "name": Passed(_NAME, required=True),
        "arguments": Passed(_Arguments(), required=True),
    }
)
_CALL = Tagged(
    "type",
    {
        "function": Object(
            {
                "id": Passed(Text(256), required=True),
                "type": Passed(Word("function"), required=True),
                "function": Passed(_FUNCTION_CALL, required=True),
                "index": Dropped(),  # left over by clients that put chunks together
            }
        )
    },
    {"custom": "grammars beyond JSON Schema are not for users"},
)

# Of a part without a type, so that its one field is refused by name.
_MEDIA: Fields = {
    "image_url": _TEXT_ONLY,
    "image_pil": _TEXT_ONLY,
    "audio_url": _TEXT_ONLY,
    "video_url": _TEXT_ONLY,
    "uuid": _TEXT_ONLY,
}
_CACHE: Fields = {"cache_control": Dropped(), "prompt_cache_breakpoint": Dropped()}

_PARTS = Tagged(
    "type",
    {
        "text": Object(
            {
                "type": Passed(Word("text"), required=True),
                "text": Passed(Text(), required=True),
                **_CACHE,
                **_MEDIA,
            }
        ),
        "refusal": Object(
            {
                "type": Passed(Word("refusal"), required=True),
                "refusal": Passed(Text(), required=True),
            }
        ),
    },
    {
        "image_url": TEXT_ONLY,
        "image_embeds": TEXT_ONLY,
        "input_audio": TEXT_ONLY,
        "audio_url": TEXT_ONLY,
        "audio_embeds": TEXT_ONLY,
        "video_url": TEXT_ONLY,
        "video_embeds": TEXT_ONLY,
        "prompt_embeds": TEXT_ONLY,
        "file": TEXT_ONLY,
        "thinking": "send it as the message's reasoning",
        "tool_reference": "tools are not loaded later",
    },
)
_CONTENT = Either(Text(), ListOf(_PARTS, MAX_MESSAGES))


_HARMONY: Fields = {
    name: Refused("messages in the form of gpt-oss go to the engine unchecked")
    for name in ("author", "channel", "recipient", "content_type")
} | {
    "tools": Refused("give tools beside the messages"),
    "task": Refused("only one of the engines knows it"),
}


def _message(role: str, fields: Fields, *, content_required: bool = True) -> Object:
    return Object(
        {
            "role": Passed(Word(role), required=True),
            "content": Passed(_CONTENT, required=content_required),
            "name": Passed(Text(256)),
            **_CACHE,
            **_HARMONY,
            **fields,
        }
    )


# What an answer holds is sent back as it came, with the fields that have no effect.
_ASSISTANT: Fields = {
    "reasoning": Passed(Text()),
    "reasoning_content": Passed(Text()),
    "tool_calls": Passed(ListOf(_CALL, MAX_CALLS)),
    "refusal": Dropped(Text()),
    "annotations": Dropped(),
    "audio": _TEXT_ONLY,
    "function_call": Refused("use tool_calls"),
}

_MESSAGES = Tagged(
    "role",
    {
        "system": _message("system", {}),
        "developer": _message("developer", {}),
        "user": _message("user", {}),
        "assistant": _message("assistant", _ASSISTANT, content_required=False),
        "tool": _message("tool", {"tool_call_id": Passed(Text(256), required=True)}),
    },
    {"function": "use tools"},
)

_TOOL = Tagged(
    "type",
    {
        "function": Object(
            {
                "type": Passed(Word("function"), required=True),
                "function": Passed(
                    Object(
                        {
                            "name": Passed(_NAME, required=True),
                            "description": Passed(Text()),
                            "parameters": Passed(JsonSchema(for_answers=False)),
                            "strict": _FLAG,
                            "defer_loading": Refused("tools are not loaded later"),
                        }
                    ),
                    required=True,
                ),
                "defer_loading": Refused("tools are not loaded later"),
                **_CACHE,
            }
        )
    },
    {"custom": "grammars beyond JSON Schema are not for users"},
)

_NAMED_FUNCTION = Object({"name": Passed(_NAME, required=True)})

_TOOL_CHOICE = Either(
    Word("none", "auto", "required"),
    Tagged(
        "type",
        {
            "function": Object(
                {
                    "type": Passed(Word("function"), required=True),
                    "function": Passed(_NAMED_FUNCTION, required=True),
                }
            )
        },
        {
            "custom": "grammars beyond JSON Schema are not for users",
            "allowed_tools": "the engines do not know it: send these tools only",
        },
    ),
)

# What the templates of well-known models switch. Whatever else a template reads could change more
# than the prompt's form.
TEMPLATE_SWITCHES: Fields = {
    "enable_thinking": _FLAG,
    "thinking": _FLAG,
    "clear_thinking": _FLAG,
    "preserve_thinking": _FLAG,
    "truncate_history_thinking": _FLAG,
    "force_nonempty_content": _FLAG,
    "low_effort": _FLAG,
    "tools_in_user_message": _FLAG,
    "reasoning_effort": _EFFORT,
}


def _arguments_are_few(made: dict[str, Any]) -> None:
    """All arguments of a request count together: the engine holds them all at once."""
    calls = [call for message in made["messages"] for call in message.get("tool_calls", ())]
    texts = [call["function"]["arguments"] for call in calls]
    try:
        require_small(b"".join(f"[{text}]".encode() for text in texts), "the text")
    except FormatError as error:
        raise bad(f"{error.expected} in all arguments", "more").within("messages") from None


def _called_tools_are_few(made: dict[str, Any]) -> None:
    """Of the tools that the model has to call as they say, the engine makes one automaton."""
    choice = made.get("tool_choice", "auto")
    named = choice["function"]["name"] if isinstance(choice, dict) else ""
    tools = [tool["function"] for tool in made.get("tools", ())]
    forced = [
        tool.get("parameters", {})
        for tool in tools
        if choice == "required" or tool["name"] == named or tool.get("strict")
    ]
    try:
        require_one_automaton(forced)
    except RequestFieldError as error:
        expected = f"{error.expected} in all tools that are required, chosen or strict"
        raise bad(expected, error.seen).within("tools") from None


_CHAT: Fields = {
    "messages": Passed(ListOf(_MESSAGES, MAX_MESSAGES, minimum=1), required=True),
    "max_completion_tokens": Passed(Whole(0, MAX_TOKENS)),
    "logprobs": _FLAG,
    "top_logprobs": Passed(Whole(0, 20)),
    "tools": Passed(ListOf(_TOOL, MAX_TOOLS, minimum=1)),
    "tool_choice": Passed(_TOOL_CHOICE),
    "parallel_tool_calls": _FLAG,
    "reasoning_effort": _EFFORT,
    "thinking_token_budget": Passed(Whole(-1, MAX_TOKENS)),
    "include_reasoning": _FLAG,
    "add_generation_prompt": _FLAG,
    "continue_final_message": _FLAG,
    "documents": Passed(
        ListOf(MapOf(Text(64, "[A-Za-z0-9_-]*", minimum=1), Text(), 16), MAX_DOCUMENTS)
    ),
    "chat_template_kwargs": Passed(Object(TEMPLATE_SWITCHES)),
    "modalities": Dropped(ListOf(Word("text"), 1)),
    "prediction": Dropped(),
    "verbosity": Dropped(),
    # With it the engine makes them, because top_logprobs is 0 and not absent.
    "echo": Refused(PROMPT_LOGPROBS),
    "chat_template": Refused("a template is a program that the engine runs"),
    "audio": _TEXT_ONLY,
    "functions": Refused("use tools"),
    "function_call": Refused("use tool_choice"),
    "moderation": Refused("nobody else reads a prompt"),
    "web_search_options": Refused("the engine calls nobody"),
}

CHAT = Object({**_CHAT, **SHARED}, rules=(*RULES, _arguments_are_few, _called_tools_are_few))
"""The body of a chat request."""
