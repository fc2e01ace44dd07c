"""API keys and quotas."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from confide.errors import ConfigError, PolicyError
from confide.host.gateway.access import Access
from tests.support.simulated_machine import Clock

DIGEST = hashlib.sha256(b"alice-key").hexdigest()
GOOD = {"alice": {"sha256": DIGEST, "requests_per_minute": 3}}


def load(tmp_path: Path, content: Any) -> Access:
    file = tmp_path / "keys.json"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return Access.load(file)


def refusal(access: Access, authorization: str) -> str:
    with pytest.raises(PolicyError) as caught:
        access.admit(authorization)
    assert "alice-key" not in str(caught.value)
    return caught.value.code


def test_a_known_key(tmp_path: Path) -> None:
    access = load(tmp_path, GOOD)
    access.admit("Bearer alice-key")
    access.admit("bearer  alice-key ")


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
        access.admit("Bearer alice-key")
    assert refusal(access, "Bearer alice-key") == "rate-limited"
    clock.now += 19
    with pytest.raises(PolicyError) as caught:
        access.admit("Bearer alice-key")
    assert caught.value.retry_after in (1, 2)
    clock.now += 1
    access.admit("Bearer alice-key")
    clock.now += 3600
    for _ in range(3):
        access.admit("Bearer alice-key")
    assert refusal(access, "Bearer alice-key") == "rate-limited"


def test_one_key_s_quota_is_not_another_s() -> None:
    digests = [hashlib.sha256(name).digest() for name in (b"a", b"b")]
    access = Access(dict.fromkeys(digests, 1))
    access.admit("Bearer a")
    access.admit("Bearer b")
    with pytest.raises(PolicyError) as caught:
        access.admit("Bearer a")
    assert caught.value.retry_after == 60


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
