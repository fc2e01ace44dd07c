"""What the proxy reads of a request, and the salt that it adds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from confide.client.proxy.prompt import SHARED, Prompt
from confide.errors import FormatError
from confide.guest.worker import cache_salt
from confide.protocol.routes.table import SEALED, Route

CHAT, COMPLETION = SEALED["/v1/chat/completions"], SEALED["/v1/completions"]
SECRET = bytes(range(32))
SYSTEM = {"role": "system", "content": "be kind"}
HELLO = {"role": "user", "content": "hello"}


def prompt(route: Route = CHAT, **fields: Any) -> Prompt:
    asked = {"prompt": "hello"} if route is COMPLETION else {"messages": [HELLO]}
    return Prompt.parse(route, json.dumps({"model": "tiny", **asked, **fields}).encode())


def chat(*messages: Any, model: str = "tiny") -> bytes:
    return prompt(model=model, messages=list(messages)).conversation


def test_the_turns_of_a_conversation_belong_together() -> None:
    first = chat(SYSTEM, HELLO)
    answered = (SYSTEM, HELLO, {"role": "assistant", "content": "hi"}, {**HELLO, "content": "so?"})
    assert chat(*answered) == first
    others = {
        chat(HELLO),
        chat(SYSTEM, {**HELLO, "content": "hello!"}),
        chat({**SYSTEM, "content": "be rude"}, HELLO),
        chat(SYSTEM, HELLO, model="second"),
    }
    assert len(others | {first}) == 5


def test_prompts_with_one_beginning_belong_together() -> None:
    one = prompt(COMPLETION, prompt="x" * 1024 + "a").conversation
    assert prompt(COMPLETION, prompt="x" * 1024 + "b").conversation == one
    assert prompt(COMPLETION, prompt="x" * 1023 + "b").conversation != one


@pytest.mark.parametrize("asked", ["", [1, 2], ["one", "two"], [[1], [2]]])
def test_every_kind_of_prompt_has_a_conversation(asked: object) -> None:
    assert len(prompt(COMPLETION, prompt=asked).conversation) == 32
    assert len(chat(SYSTEM)) == 32, "nobody has asked"


def salt_in(body: bytes) -> Any:
    return json.loads(body)["cache_salt"]


def test_a_default_salt_that_outlives_keys() -> None:
    one = prompt(messages=[HELLO])
    salted = one.salted(SECRET)
    assert json.loads(salted) == {**one.request, "cache_salt": salt_in(salted)}
    assert salt_in(salted) == salt_in(prompt(messages=[SYSTEM, HELLO]).salted(SECRET))
    assert salt_in(salted) != salt_in(one.salted(bytes(32))), "another client's"
    assert salt_in(salted) != salt_in(prompt(model="second").salted(SECRET))
    assert SECRET.hex() not in salted.decode()


def test_the_worker_takes_it_for_a_shared_one() -> None:
    salt = salt_in(prompt().salted(SECRET))
    assert SHARED == cache_salt.SHARED and salt.startswith(SHARED)
    assert not cache_salt.is_of_one_user(salt)
    assert len(salt) >= cache_salt.MIN_SALT


def test_the_app_s_own_salt_stays() -> None:
    one = prompt(cache_salt="a salt of the app's own, which is long")
    assert json.loads(one.salted(SECRET)) == one.request


def test_what_has_no_effect_does_not_leave_the_proxy() -> None:
    sent = json.loads(prompt(user="somebody", metadata={"a": "b"}, n=None).salted(SECRET))
    assert set(sent) == {"model", "messages", "cache_salt"}


@pytest.mark.parametrize(
    "body",
    [
        b' {"model": "tiny", "prompt": "x" } \r\n\t',
        b'{"model": "tiny", "cache_salt": null, "prompt": "x"}',
        '{"model": "tiny", "prompt": "\u00fc}"}'.encode(),
    ],
)
def test_odd_spellings_are_salted(body: bytes) -> None:
    salted = Prompt.parse(COMPLETION, body).salted(SECRET)
    assert salt_in(salted).startswith(SHARED)
    assert json.loads(salted)["model"] == "tiny"


@pytest.mark.parametrize(
    ("body", "code"), [(b"", "bad-json"), (b"{}", "missing-field"), (b'{"x": 1}', "unknown-field")]
)
def test_what_is_no_request_does_not_leave_the_proxy(body: bytes, code: str) -> None:
    with pytest.raises(FormatError) as caught:
        Prompt.parse(CHAT, body)
    assert caught.value.code == code
