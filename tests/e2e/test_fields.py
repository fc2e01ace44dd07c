"""Every field that the table passes, sent to the engine in the machine: none ends it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from confide.commands.system import Build, Program
from tests.support.field_samples import CHAT, SAMPLES, UNLIKE

NUMBERED = [(path, at) for path, samples in SAMPLES.items() for at in range(len(samples))]


def ask(proxy: Program, build: Build, path: str, sample: dict[str, Any]) -> requests.Response:
    body = {"model": build.model_name, "max_tokens": 16, **sample}
    return requests.post(f"{proxy.url}{path}", json=body, timeout=180)


@pytest.mark.parametrize(("path", "at"), NUMBERED)
def test_the_engine_answers_each_sample(proxy: Program, build: Build, path: str, at: int) -> None:
    sample = SAMPLES[path][at]
    reply = ask(proxy, build, path, sample)
    assert reply.status_code == 200, reply.text
    if sample.get("stream"):
        events = reply.text.split("\n\n")
        assert events[-2] == "data: [DONE]"
        assert json.loads(events[-3][6:])["usage"]["completion_tokens"]
    else:
        assert reply.json()["choices"] and reply.json()["usage"]["prompt_tokens"]


@pytest.mark.parametrize("at", range(len(UNLIKE[CHAT.path])))
def test_what_this_model_lacks_is_the_engine_s_own_refusal(
    proxy: Program, build: Build, at: int
) -> None:
    """A parser for tools, say. The engine answers, and serves on."""
    sample = SAMPLES[CHAT.path][0] | UNLIKE[CHAT.path][at]
    reply = ask(proxy, build, CHAT.path, sample)
    assert reply.status_code in (200, 400), reply.text
    assert ask(proxy, build, CHAT.path, SAMPLES[CHAT.path][1]).status_code == 200


def test_a_refused_field_does_not_reach_the_engine(proxy: Program, build: Build) -> None:
    sample = SAMPLES[CHAT.path][0] | {"chat_template": "{{ 7 }}"}
    reply = ask(proxy, build, CHAT.path, sample)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "/chat_template"


def test_a_stream_keeps_its_fingerprint(proxy: Program, build: Build) -> None:
    sample = SAMPLES[CHAT.path][0] | {"stream": True}
    events = ask(proxy, build, CHAT.path, sample).text.split("\n\n")
    last = json.loads(events[-3].removeprefix("data: "))
    assert last["choices"][0]["finish_reason"] and last["system_fingerprint"]
    assert "usage" not in last
