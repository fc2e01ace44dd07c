"""What applications really send is read: by OpenAI's SDK itself, and as others send it."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionMessage

from tests.support.route_requests import CHAT, COMPLETION, HELLO, read

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Bern"}'},
}


class Recorded:
    """OpenAI's SDK, and the last body that it sent."""

    def __init__(self) -> None:
        self.body = b""
        transport = httpx2.MockTransport(self._answer)
        client = httpx2.Client(transport=transport)
        self.sdk = openai.OpenAI(
            base_url="http://127.0.0.1/v1", api_key="x", http_client=client, max_retries=0
        )

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.body = request.read()
        return httpx2.Response(400, json={"error": {"message": "no"}})

    def chat(self, **fields: Any) -> dict[str, Any]:
        with pytest.raises(openai.BadRequestError):
            self.sdk.chat.completions.create(**{"model": "tiny", "messages": [HELLO], **fields})
        return CHAT.read(self.body)

    def complete(self, **fields: Any) -> dict[str, Any]:
        with pytest.raises(openai.BadRequestError):
            self.sdk.completions.create(**{"model": "tiny", "prompt": "hello", **fields})
        return COMPLETION.read(self.body)


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


def test_everything_that_a_chat_of_openai_s_sdk_can_ask(recorded: Recorded) -> None:
    schema = {"name": "city", "schema": WEATHER["function"]["parameters"], "strict": True}  # type: ignore[index]
    passed: dict[str, Any] = {
        "frequency_penalty": 0.5,
        "logit_bias": {"50256": -100},
        "logprobs": True,
        "max_completion_tokens": 100,
        "max_tokens": 100,
        "n": 2,
        "parallel_tool_calls": False,
        "presence_penalty": -0.5,
        "reasoning_effort": "minimal",
        "response_format": {"type": "json_schema", "json_schema": schema},
        "seed": 7,
        "stop": ["\n", "END"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "tools": [WEATHER],
        "top_logprobs": 5,
        "top_p": 1,
    }
    dropped: dict[str, Any] = {
        "metadata": {"run": "1"},
        "modalities": ["text"],
        "prediction": {"type": "content", "content": "x"},
        "prompt_cache_key": "x",
        "prompt_cache_options": {"mode": "implicit"},
        "prompt_cache_retention": "24h",
        "safety_identifier": "x",
        "service_tier": "auto",
        "store": False,
        "user": "x",
        "verbosity": "low",
    }
    made = recorded.chat(**passed, **dropped)
    assert made == {"model": "tiny", "messages": [HELLO], **passed}


def test_everything_that_a_completion_of_openai_s_sdk_can_ask(recorded: Recorded) -> None:
    passed: dict[str, Any] = {
        "echo": False,
        "frequency_penalty": 0.5,
        "logit_bias": {"50256": -100},
        "logprobs": 5,
        "max_tokens": 100,
        "n": 2,
        "presence_penalty": 0.5,
        "seed": 7,
        "stop": "END",
        "temperature": 0.7,
        "top_p": 0.9,
    }
    assert recorded.complete(**passed, user="x", best_of=1) == {
        "model": "tiny",
        "prompt": "hello",
        **passed,
    }


def test_an_answer_is_sent_back_as_it_came(recorded: Recorded) -> None:
    """Programs append the message of the answer to the chat, with all that vLLM says in it."""
    message = ChatCompletionMessage.model_validate(
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "tool_calls": [CALL],
            "reasoning": "the user wants the weather",
        }
    )
    answered = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
    for sent in (message, message.model_dump()):
        made = recorded.chat(messages=[HELLO, sent, answered], tools=[WEATHER])
        assert made["messages"] == [
            HELLO,
            {
                "role": "assistant",
                "tool_calls": [CALL],
                "reasoning": "the user wants the weather",
            },
            answered,
        ]


def test_vllm_s_own_fields_through_extra_body(recorded: Recorded) -> None:
    extra = {
        "top_k": 20,
        "min_p": 0.05,
        "repetition_penalty": 1.05,
        "chat_template_kwargs": {"enable_thinking": False},
        "structured_outputs": {"choice": ["yes", "no"]},
        "skip_special_tokens": False,
        "stop_token_ids": [7],
    }
    assert recorded.chat(extra_body=extra) == {"model": "tiny", "messages": [HELLO], **extra}


OTHERS: dict[str, dict[str, Any]] = {
    "langchain-openai": {
        "messages": [{"role": "system", "content": "be kind"}, HELLO],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.7,
        "tools": [WEATHER],
        "tool_choice": "auto",
    },
    "litellm": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}
                ],
            }
        ],
        "max_tokens": 64,
        "stream": False,
        "user": "team-1",
    },
    "Vercel's AI SDK": {
        "max_tokens": None,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "schema": {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"},
                "strict": True,
                "name": "response",
            },
        },
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "instructor": {
        "messages": [HELLO],
        "tools": [WEATHER],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    },
    "llama-index": {
        "messages": [{"role": "user", "content": "hello", "name": "alice"}],
        "temperature": 0.1,
        "stream": False,
    },
    "an agent with an answer that was put together from chunks": {
        "messages": [
            HELLO,
            {
                "role": "assistant",
                "content": "",
                "reasoning_content": "hm",
                "tool_calls": [{**CALL, "index": 0}],
            },
            {"role": "tool", "tool_call_id": "call_1", "name": "get_weather", "content": "rain"},
        ],
        "parallel_tool_calls": True,
        "reasoning_effort": "low",
    },
    "Open WebUI": {"messages": [HELLO], "stream": True, "metadata": {"chat": "1"}},
}


@pytest.mark.parametrize("client", OTHERS)
def test_requests_of_other_clients(client: str) -> None:
    made = read(**OTHERS[client])
    assert made["messages"]
    assert "cache_control" not in json.dumps(made) and "metadata" not in made
