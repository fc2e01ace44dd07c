"""The replay guard refuses what it saw and what it cannot remember."""

from __future__ import annotations

import threading
import time

import pytest

from confide.errors import ConfideError, PolicyError, UnavailableError
from confide.guest.worker.replay import ReplayGuard

KEY, OTHER = b"k" * 32, b"o" * 32


def salt(number: int) -> bytes:
    return number.to_bytes(32, "big")


def code(guard: ReplayGuard, key: bytes, number: int, *, expires: int, now: int) -> str:
    try:
        guard.check(key, salt(number), expires=expires, now=now)
    except ConfideError as error:
        return error.code
    return "ok"


def test_replay() -> None:
    guard = ReplayGuard()
    assert code(guard, KEY, 1, expires=100, now=0) == "ok"
    assert code(guard, KEY, 1, expires=100, now=1) == "replay"
    assert code(guard, KEY, 1, expires=100, now=99) == "replay"
    assert code(guard, KEY, 2, expires=100, now=99) == "ok"
    assert code(guard, OTHER, 1, expires=100, now=99) == "ok"


def test_expired_key() -> None:
    guard = ReplayGuard()
    assert code(guard, KEY, 1, expires=100, now=100) == "unknown-key"
    assert code(guard, KEY, 1, expires=100, now=0) == "ok"
    assert code(guard, KEY, 1, expires=100, now=100) == "unknown-key"


def test_a_later_shorter_lifetime_frees_nothing() -> None:
    guard = ReplayGuard()
    assert code(guard, KEY, 1, expires=100, now=0) == "ok"
    assert code(guard, KEY, 2, expires=10, now=0) == "ok"
    assert code(guard, KEY, 1, expires=100, now=50) == "replay"


def test_full_memory_refuses_and_recovers_at_expiry() -> None:
    guard = ReplayGuard(max_salts=2)
    assert code(guard, KEY, 1, expires=100, now=0) == "ok"
    assert code(guard, OTHER, 1, expires=200, now=0) == "ok"
    with pytest.raises(UnavailableError):
        guard.check(KEY, salt(2), expires=100, now=0)
    with pytest.raises((PolicyError, UnavailableError)):
        guard.check(KEY, salt(1), expires=100, now=0)
    assert code(guard, OTHER, 2, expires=200, now=100) == "ok"
    assert code(guard, OTHER, 1, expires=200, now=100) != "ok"


class SlowSalt(bytes):
    """Lets other threads run between looking a salt up and adding it."""

    def __hash__(self) -> int:
        time.sleep(0.001)
        return super().__hash__()


def test_one_of_many_threads_wins() -> None:
    guard = ReplayGuard()
    results: list[str] = []
    barrier = threading.Barrier(4)

    def run() -> None:
        barrier.wait()
        for number in range(10):
            try:
                guard.check(KEY, SlowSalt(salt(number)), expires=100, now=0)
            except PolicyError as error:
                results.append(error.code)
            else:
                results.append("ok")

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (results.count("ok"), results.count("replay")) == (10, 30)
