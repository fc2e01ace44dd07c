"""What the proxy reads of a request, and the salt that it adds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from confide.client.proxy.prompt import SHARED, Prompt
from confide.errors import FormatError
from confide.guest.worker import cache_salt

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
SECRET = bytes(range(32))
SYSTEM = {"role": "system", "content": "be kind"}
HELLO = {"role": "user", "content": "hello"}


def prompt(path: str = CHAT, **fields: Any) -> Prompt:
    return Prompt.parse(path, json.dumps({"model": "tiny", **fields}).encode())


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


@pytest.mark.parametrize(
    "fields", [{}, {"messages": None}, {"messages": []}, {"messages": ["x", 7]}, {"prompt": 7}]
)
def test_odd_requests_have_a_conversation(fields: dict[str, Any]) -> None:
    assert len(prompt(**fields).conversation) == 32


def salt_in(body: bytes) -> Any:
    return json.loads(body)["cache_salt"]


def test_a_default_salt_that_outlives_keys() -> None:
    one = prompt(messages=[HELLO])
    salted = one.salted(SECRET)
    assert json.loads(salted) == {**one.request, "cache_salt": salt_in(salted)}
    assert salt_in(salted) == salt_in(prompt(messages=[SYSTEM]).salted(SECRET))
    assert salt_in(salted) != salt_in(one.salted(bytes(32))), "another client's"
    assert salt_in(salted) != salt_in(prompt(model="second").salted(SECRET))
    assert SECRET.hex() not in salted.decode()


def test_the_worker_takes_it_for_a_shared_one() -> None:
    salt = salt_in(prompt().salted(SECRET))
    assert SHARED == cache_salt.SHARED and salt.startswith(SHARED)
    assert not cache_salt.is_of_one_user(salt)
    assert len(salt) >= cache_salt.MIN_SALT


@pytest.mark.parametrize("salt", ["a salt of the app's own, which is long", "short", 7, {}])
def test_the_app_s_own_salt_stays(salt: Any) -> None:
    one = prompt(cache_salt=salt)
    assert one.salted(SECRET) == one.body


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "tiny"}',
        b' {"model": "tiny" } \r\n\t',
        b'{"model": "tiny", "cache_salt": null}',
        b'{"cache_salt": "a salt that is replaced by null", "model": "tiny", "cache_salt": null}',
        '{"model": "tiny", "user": "\u00fc}"}'.encode(),
    ],
)
def test_odd_spellings_are_salted(body: bytes) -> None:
    salted = Prompt.parse(CHAT, body).salted(SECRET)
    assert salt_in(salted).startswith(SHARED)
    assert json.loads(salted)["model"] == "tiny"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad-json"),
        (b"{", "bad-json"),
        (b"[" * 100_000, "bad-json"),
        (b"\xff\xfe", "bad-json"),
        ('{"model": "tiny"}'.encode("utf-16"), "bad-json"),
        (b"\xef\xbb\xbf{}", "bad-json"),
        (b"[]", "bad-request"),
        (b"{}", "bad-request"),
        (b'{"model": 7}', "bad-request"),
    ],
)
def test_what_is_no_request(body: bytes, code: str) -> None:
    with pytest.raises(FormatError) as caught:
        Prompt.parse(CHAT, body)
    assert caught.value.code == code
