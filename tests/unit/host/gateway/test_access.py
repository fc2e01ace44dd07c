"""API keys and quotas."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from confide.errors import ConfigError, PolicyError
from confide.guest.secret_service.domain import MAX_KEYS
from confide.host.gateway import access as access_module
from confide.host.gateway.access import KEY_MESSAGES, Access, Doorkeeper, Everybody, Use, allowances
from tests.support.simulated_machine import Clock

DIGEST = hashlib.sha256(b"alice-key").hexdigest()
GOOD = {"alice": {"sha256": DIGEST, "requests_per_minute": 3}}


def load(tmp_path: Path, content: Any) -> Access:
    file = tmp_path / "keys.json"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return Access.load(file)


def admit(
    access: Doorkeeper, authorization: str, use: Use = Use.REQUESTS, address: str = "192.0.2.1"
) -> None:
    access.admit(use, authorization=authorization, address=address)


def refusal(access: Access, authorization: str) -> str:
    with pytest.raises(PolicyError) as caught:
        admit(access, authorization)
    assert "alice-key" not in str(caught.value)
    return caught.value.code


def test_a_known_key(tmp_path: Path) -> None:
    access = load(tmp_path, GOOD)
    admit(access, "Bearer alice-key")
    admit(access, "bearer  alice-key ")


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer alice", "alice-key", "Basic alice-key", f"Bearer {DIGEST}"],
)
def test_anything_else(tmp_path: Path, authorization: str) -> None:
    assert refusal(load(tmp_path, GOOD), authorization) == "unauthorized"


def test_the_quota_refills() -> None:
    clock = Clock(0.0)
    access = Access({bytes.fromhex(DIGEST): 3}, clock=clock)
    for _ in range(3):
        admit(access, "Bearer alice-key")
    assert refusal(access, "Bearer alice-key") == "rate-limited"
    clock.now += 19
    assert refusal(access, "Bearer alice-key") == "rate-limited"
    clock.now += 1
    admit(access, "Bearer alice-key")
    clock.now += 3600
    for _ in range(3):
        admit(access, "Bearer alice-key")
    assert refusal(access, "Bearer alice-key") == "rate-limited"


def used_up(access: Doorkeeper, use: Use, *, address: str = "192.0.2.1", most: int = 2000) -> int:
    """How often it can be done at once."""
    for count in range(most):
        try:
            admit(access, "Bearer alice-key", use, address)
        except PolicyError as error:
            assert error.code == "rate-limited"
            assert use.value in error.message
            return count
    return most


@pytest.mark.parametrize("flood", Use)
def test_no_use_uses_another_up(flood: Use) -> None:
    access = Access({bytes.fromhex(DIGEST): 3}, clock=Clock(0.0))
    allowed = allowances(3)
    assert used_up(access, flood) == allowed[flood].at_once
    for use in set(Use) - {flood}:
        assert used_up(access, use) == allowed[use].at_once


@pytest.mark.parametrize("use", Use)
def test_a_refusal_says_when_to_ask_again(use: Use) -> None:
    clock = Clock(0.0)
    access = Access({bytes.fromhex(DIGEST): 3}, clock=clock)
    used_up(access, use)
    with pytest.raises(PolicyError) as caught:
        admit(access, "Bearer alice-key", use)
    wait = caught.value.retry_after
    assert 1 <= wait <= 20
    clock.now += wait
    admit(access, "Bearer alice-key", use)


def test_one_client_fills_no_secret_service() -> None:
    """In an hour it sends 2 % of what one holds, and 8 % of its gateway's quarter."""
    clock = Clock(0.0)
    access = Access({bytes.fromhex(DIGEST): 10**6}, clock=clock)
    sent = 0
    for _ in range(3600):
        sent += used_up(access, Use.KEYS)
        clock.now += 1
    assert sent <= MAX_KEYS // 50


def test_without_api_keys_key_messages_of_an_address_are_counted() -> None:
    clock = Clock(0.0)
    everybody = Everybody(clock=clock)
    for use in set(Use) - {Use.KEYS}:
        assert used_up(everybody, use) == 2000
    assert used_up(everybody, Use.KEYS) == KEY_MESSAGES.at_once
    assert used_up(everybody, Use.KEYS, address="192.0.2.2") == KEY_MESSAGES.at_once
    assert used_up(everybody, Use.KEYS, address="2001:db8::1") == KEY_MESSAGES.at_once
    assert used_up(everybody, Use.KEYS, address="2001:db8::2") == 0, "one network, one sender"
    assert used_up(everybody, Use.KEYS, address="::ffff:192.0.2.2") == 0
    clock.now += 60
    assert used_up(everybody, Use.KEYS) == int(KEY_MESSAGES.per_minute)


def test_addresses_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "MAX_ADDRESSES", 10)
    everybody = Everybody(clock=Clock(0.0))
    used_up(everybody, Use.KEYS)
    for number in range(9):
        admit(everybody, "", Use.KEYS, f"198.51.100.{number}")
    assert used_up(everybody, Use.KEYS) == 0, "it was seen a moment ago"
    for number in range(100):
        admit(everybody, "", Use.KEYS, f"198.51.100.{number}")
    assert len(everybody._quotas) == 10


def test_one_key_s_quota_is_not_another_s() -> None:
    digests = [hashlib.sha256(name).digest() for name in (b"a", b"b")]
    access = Access(dict.fromkeys(digests, 1))
    admit(access, "Bearer a")
    admit(access, "Bearer b")
    assert refusal(access, "Bearer a") == "rate-limited"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        {"alice": {}},
        {"alice": DIGEST},
        {"alice": {"sha256": DIGEST}},
        {"alice": {"sha256": DIGEST.upper(), "requests_per_minute": 1}},
        {"alice": {"sha256": DIGEST[:-2], "requests_per_minute": 1}},
        {"alice": {"sha256": DIGEST, "requests_per_minute": 0}},
        {"alice": {"sha256": DIGEST, "requests_per_minute": "1"}},
        {"alice": {"sha256": DIGEST, "requests_per_minute": 1, "admin": True}},
        {**GOOD, "bob": GOOD["alice"]},
    ],
)
def test_files_that_are_none(tmp_path: Path, content: Any) -> None:
    with pytest.raises(ConfigError, match=r"keys\.json") as caught:
        load(tmp_path, content)
    assert caught.value.code == "bad-api-keys"


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"at most 1048576 bytes; seen .*keys\.json"):
        load(tmp_path, b" " * ((1 << 20) + 1))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-file"):
        Access.load(tmp_path / "no-file")
