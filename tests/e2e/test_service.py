"""The straight line: ordinary clients get an answer from the model in the machine."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from pathlib import Path

import openai
import pytest
import requests
from openai.types.chat import ChatCompletionMessageParam

from confide.commands.system import Build, Program, System

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Who can read this?"}]


@pytest.fixture(scope="module")
def client(proxy: Program) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="unused", max_retries=0, timeout=120)


def test_chat_with_the_openai_package(client: openai.OpenAI, build: Build, expected: str) -> None:
    reply = client.chat.completions.create(model=build.model_name, messages=MESSAGES)
    assert reply.choices[0].message.content == expected
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None and reply.usage.prompt_tokens > 0
    assert reply.usage.completion_tokens > 5


def test_chat_streams_event_by_event(client: openai.OpenAI, build: Build, expected: str) -> None:
    stream = client.chat.completions.create(model=build.model_name, messages=MESSAGES, stream=True)
    parts = [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
    words = [part for part in parts if part]
    assert "".join(words) == expected
    assert len(words) > 5


def test_completions(client: openai.OpenAI, build: Build, expected: str) -> None:
    reply = client.completions.create(model=build.model_name, prompt="Hello", max_tokens=200)
    assert reply.choices[0].text.strip() == expected


def test_logprobs_leave_the_engine_running(
    client: openai.OpenAI, build: Build, expected: str
) -> None:
    # vLLM compiles how it ranks them, unless told not to, and the image has no compiler.
    reply = client.chat.completions.create(
        model=build.model_name, messages=MESSAGES, logprobs=True, top_logprobs=2
    )
    assert reply.choices[0].logprobs and reply.choices[0].logprobs.content and reply.usage
    assert len(reply.choices[0].logprobs.content) == reply.usage.completion_tokens
    after = client.completions.create(model=build.model_name, prompt="Hello", max_tokens=200)
    assert after.choices[0].text.strip() == expected


def test_models_lists_what_is_served(client: openai.OpenAI, build: Build) -> None:
    assert [model.id for model in client.models.list()] == [build.model_name]


def test_curl(proxy: Program, build: Build, expected: str) -> None:
    body = json.dumps({"model": build.model_name, "messages": MESSAGES})
    url = f"{proxy.url}/v1/chat/completions"
    command = ["curl", "-sS", url, "-H", "content-type: application/json", "-d", body]
    output = subprocess.run(command, capture_output=True, check=True, timeout=120).stdout
    assert json.loads(output)["choices"][0]["message"]["content"] == expected


def test_anything_else_is_a_clear_501(proxy: Program) -> None:
    reply = requests.post(f"{proxy.url}/v1/embeddings", json={}, timeout=10)
    assert reply.status_code == 501
    assert "/v1/embeddings" in reply.json()["error"]["message"]


def test_unknown_model_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="no-such-model"):
        client.chat.completions.create(model="no-such-model", messages=MESSAGES)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": 3}', b"\xff\xfe"])
def test_malformed_requests(proxy: Program, body: bytes) -> None:
    reply = requests.post(f"{proxy.url}/v1/chat/completions", data=body, timeout=10)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"]


def test_oversized_request_and_then_a_normal_one(
    proxy: Program, client: openai.OpenAI, build: Build, expected: str
) -> None:
    body = {"model": build.model_name, "messages": [{"role": "user", "content": "x" * (20 << 20)}]}
    # Refused before it was read, so the sender may see only the closed connection.
    with contextlib.suppress(requests.ConnectionError):
        reply = requests.post(f"{proxy.url}/v1/chat/completions", json=body, timeout=60)
        assert reply.status_code == 413
    test_chat_with_the_openai_package(client, build, expected)


def test_client_that_leaves_mid_stream(
    proxy: Program, client: openai.OpenAI, build: Build, expected: str
) -> None:
    host, _, port = proxy.url.removeprefix("http://").partition(":")
    body = json.dumps({"model": build.model_name, "messages": MESSAGES, "stream": True}).encode()
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: %s:%s\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (host.encode(), port.encode(), len(body), body)
        )
        assert connection.recv(64).startswith(b"HTTP/1.1 200")
    test_chat_with_the_openai_package(client, build, expected)


def test_no_prompt_in_any_log(system: System, client: openai.OpenAI, build: Build) -> None:
    secret = "the-prompt-that-nobody-may-log-4711"
    client.chat.completions.create(
        model=build.model_name, messages=[{"role": "user", "content": secret}]
    )
    logs = [path for path in Path(system.run_dir).rglob("*") if path.is_file()]
    assert len(logs) > 4
    for log in logs:
        assert secret.encode() not in log.read_bytes(), log
