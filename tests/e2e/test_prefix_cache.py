"""Who finds whose prompts in the engine's prefix cache, on the machine that serves.

The engine says how many tokens of a prompt it had: that is what a stopwatch would tell a stranger.
"""

from __future__ import annotations

import uuid

import pytest

from confide.commands.system import Build, Program, System
from tests.support.sealed_client import SealedClient

BLOCK = 128
"""Tokens that vLLM's CPU build remembers or forgets together; the tiny model has one for a byte."""


@pytest.fixture
def prompt() -> str:
    """A prompt of some blocks that nobody has sent before."""
    return f"{uuid.uuid4()} " * 20


def new_client(gateway: Program, system: System) -> SealedClient:
    return SealedClient(gateway.url, system.manifest.read_bytes())


def cached_tokens(client: SealedClient, build: Build, prompt: str, **fields: str) -> int:
    """How many tokens of the prompt the engine says it had."""
    asked = {"prompt": prompt, "max_tokens": 1, **fields}
    status, answer = client.ask("/v1/completions", build.model_name, asked)
    assert status == 200, answer
    usage = answer["usage"]
    assert usage["prompt_tokens"] > 2 * BLOCK
    return int(usage["prompt_tokens_details"]["cached_tokens"])


def test_one_user_finds_its_own_prompts(
    system: System, gateway: Program, build: Build, prompt: str
) -> None:
    client, salt = new_client(gateway, system), uuid.uuid4().hex
    assert cached_tokens(client, build, prompt, cache_salt=salt) == 0
    assert cached_tokens(client, build, prompt, cache_salt=salt) >= BLOCK


def test_keys_share_only_under_a_salt_that_both_know(
    system: System, gateway: Program, build: Build, prompt: str
) -> None:
    one, other = new_client(gateway, system), new_client(gateway, system)
    agreed, another = uuid.uuid4().hex, uuid.uuid4().hex
    cached_tokens(one, build, prompt, cache_salt=agreed)
    assert cached_tokens(other, build, prompt, cache_salt=agreed) >= BLOCK
    assert cached_tokens(other, build, prompt, cache_salt=another) == 0


@pytest.mark.parametrize("salt", [{}, {"cache_salt": "shared:" + "0" * 64}])
def test_what_is_cached_for_several_users_is_not_said(
    system: System, gateway: Program, build: Build, prompt: str, salt: dict[str, str]
) -> None:
    """Else anybody behind the same client could try out what others have asked."""
    client = new_client(gateway, system)
    for _ in range(2):
        asked = {"prompt": prompt, "max_tokens": 1, **salt}
        status, answer = client.ask("/v1/completions", build.model_name, asked)
        assert status == 200 and "cached_tokens" not in str(answer["usage"])
