"""The worker's key cache: when it asks, when it forgets, and that it never runs a replay."""

from __future__ import annotations

import os
import threading

import pytest

from confide.errors import PolicyError, UnavailableError
from confide.guest.worker import keys as keys_module
from confide.guest.worker.keys import GRACE_SECONDS, Keys
from confide.protocol.sealed import RequestSealer
from confide.protocol.secret_service import ReleasedKey
from tests.support.simulated_machine import Clock

KEY, KEY_ID = bytes(range(32)), bytes(32)


class SecretService:
    def __init__(self, expires_in: int = 600) -> None:
        self.asked = 0
        self.expires_in = expires_in

    def __call__(self, key_id: bytes) -> ReleasedKey:
        self.asked += 1
        if key_id != KEY_ID:
            raise PolicyError("unknown-key", "no such key")
        return ReleasedKey(KEY, ("tiny",), self.expires_in)


def seal(body: bytes = b"{}") -> bytes:
    sealer = RequestSealer(KEY, KEY_ID)
    return sealer.seal(method="POST", path="/v1/completions", model="tiny", body=body)


def open_with(keys: Keys, sealed: bytes, key_id: bytes = KEY_ID) -> bytes:
    return keys.open(
        sealed, key_id=key_id, method="POST", path="/v1/completions", model="tiny"
    ).body


@pytest.fixture
def clock() -> Clock:
    return Clock(50.0)


@pytest.fixture
def service() -> SecretService:
    return SecretService()


@pytest.fixture
def keys(service: SecretService, clock: Clock) -> Keys:
    return Keys(service, clock=clock)


def test_a_key_is_fetched_once(keys: Keys, service: SecretService) -> None:
    assert [open_with(keys, seal(b"1")), open_with(keys, seal(b"2"))] == [b"1", b"2"]
    assert service.asked == 1


def test_many_requests_at_once_fetch_it_once(keys: Keys, service: SecretService) -> None:
    threads = [threading.Thread(target=open_with, args=(keys, seal())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.asked == 1


def test_an_unknown_key_is_not_remembered(keys: Keys, service: SecretService) -> None:
    for _ in range(2):
        with pytest.raises(PolicyError) as caught:
            open_with(keys, seal(), os.urandom(32))
        assert caught.value.code == "unknown-key"
    assert service.asked == 2


def test_an_expired_key(keys: Keys, service: SecretService, clock: Clock) -> None:
    open_with(keys, seal())
    clock.now += 600
    with pytest.raises(PolicyError) as caught:
        open_with(keys, seal())
    assert caught.value.code == "unknown-key"
    assert service.asked == 1


def test_a_replay_around_the_end_of_the_key(
    keys: Keys, service: SecretService, clock: Clock
) -> None:
    """The secret service may still have the key when this worker's clock says that it ended."""
    sealed = seal()
    open_with(keys, sealed)
    for _ in range(GRACE_SECONDS - 1):
        clock.now += 601 / GRACE_SECONDS if clock.now < 650 else 1
        with pytest.raises(PolicyError):
            open_with(keys, sealed)
    assert service.asked == 1


def test_everything_is_forgotten_at_last(keys: Keys, service: SecretService, clock: Clock) -> None:
    open_with(keys, seal())
    clock.now += 600 + GRACE_SECONDS
    open_with(keys, seal())
    assert service.asked == 2


def test_a_key_that_ends_at_once(clock: Clock) -> None:
    with pytest.raises(PolicyError, match="expired"):
        open_with(Keys(SecretService(expires_in=0), clock=clock), seal())


def test_too_many_keys(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "MAX_KEYS", 2)
    keys = Keys(lambda _: ReleasedKey(KEY, ("tiny",), 600), clock=clock)
    for _ in range(2):
        with pytest.raises(Exception, match="does not open"):
            open_with(keys, seal(), os.urandom(32))
    with pytest.raises(UnavailableError) as caught:
        open_with(keys, seal(), os.urandom(32))
    assert caught.value.code == "too-many-keys"


def test_a_model_that_the_key_does_not_allow(keys: Keys) -> None:
    with pytest.raises(PolicyError) as caught:
        keys.open(seal(), key_id=KEY_ID, method="POST", path="/v1/completions", model="other")
    assert caught.value.code == "model-not-allowed"
