"""Made-up key ids cost a worker little, and no honest request."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from confide.errors import ConfideError, PolicyError, UnavailableError
from confide.guest.secret_service.client import DeniedError
from confide.guest.worker.look_ups import PLACES, REST_SECONDS, LookUps
from tests.support.simulated_machine import Clock

GOOD = b"\x01" * 32
AWAY = UnavailableError("secret-service-unreachable", "away")
PARTLY = PolicyError("unknown-key", "one says so, another one is away")
DENIED = DeniedError("unknown-key", "each one says so")
NOT_HERE = DeniedError("model-not-allowed", "it is for another model")


class Services:
    """Knows the keys in `held`. For others it raises `error`."""

    def __init__(self) -> None:
        self.held = {GOOD}
        self.error: BaseException = DENIED
        self.asked: list[bytes] = []

    def __call__(self, key_id: bytes) -> bytes:
        self.asked.append(key_id)
        if key_id in self.held:
            return b"key of " + key_id
        raise self.error


@pytest.fixture
def clock() -> Clock:
    return Clock(50.0)


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def look_ups(services: Services, clock: Clock) -> LookUps[bytes]:
    return LookUps(services, clock)


def code(look_ups: LookUps[bytes], key_id: bytes) -> str:
    with pytest.raises(ConfideError) as caught:
        look_ups.get(key_id)
    return caught.value.code


@pytest.mark.parametrize("error", [DENIED, NOT_HERE], ids=lambda error: error.code)
def test_what_each_service_denied_is_denied_from_memory_for_a_moment(
    look_ups: LookUps[bytes], services: Services, clock: Clock, error: DeniedError
) -> None:
    services.error = error
    name = os.urandom(32)
    assert [code(look_ups, name) for _ in range(5)] == [error.code] * 5
    assert len(services.asked) == 1
    clock.now += REST_SECONDS
    services.held.add(name)
    assert look_ups.get(name) == b"key of " + name


@pytest.mark.parametrize("error", [AWAY, PARTLY], ids=["away", "one is away"])
def test_a_key_that_may_be_at_a_service_that_was_away_works_at_once(
    look_ups: LookUps[bytes], services: Services, error: ConfideError
) -> None:
    """A gateway learns the id when one service has taken the key. It names it to a worker that
    cannot reach that one, and then lets the client's request through.
    """
    services.error = error
    assert code(look_ups, b"\x02" * 32) == error.code
    services.held.add(b"\x02" * 32)
    assert look_ups.get(b"\x02" * 32)


def test_ids_that_were_denied_keep_no_other_key_out(
    look_ups: LookUps[bytes], services: Services
) -> None:
    for _ in range(PLACES - 1):
        assert code(look_ups, os.urandom(32)) == "unknown-key"
    assert [look_ups.get(GOOD) for _ in range(3)], "a place is left"
    for number in range(1000):
        services.held.add(number.to_bytes(32, "big"))
        assert look_ups.get(number.to_bytes(32, "big")), "one that finds a key leaves it"


def test_made_up_ids_cost_a_bounded_number_of_look_ups(
    look_ups: LookUps[bytes], services: Services, clock: Clock
) -> None:
    """A minute of a thousand ids a second."""
    for _ in range(600):
        for _ in range(100):
            assert code(look_ups, os.urandom(32)) in ("unknown-key", "too-many-look-ups")
        clock.now += 0.1
    assert len(services.asked) <= PLACES * (60 / REST_SECONDS + 1)
    assert len(look_ups._resting) <= PLACES and not look_ups._running
    clock.now += REST_SECONDS
    assert look_ups.get(GOOD)


def test_services_that_are_away_take_no_place(look_ups: LookUps[bytes], services: Services) -> None:
    """Else the honest would hear of the worker, and not of what is wrong."""
    services.error = AWAY
    assert {code(look_ups, os.urandom(32)) for _ in range(3 * PLACES)} == {AWAY.code}


@pytest.mark.parametrize("kind", [RecursionError, MemoryError, SystemExit, KeyError])
def test_whatever_a_look_up_raises_frees_its_place(
    look_ups: LookUps[bytes], services: Services, kind: type[BaseException]
) -> None:
    services.error = kind()
    for _ in range(2 * PLACES):
        with pytest.raises(kind):
            look_ups.get(b"\x02" * 32)
    services.held.add(b"\x02" * 32)
    assert look_ups.get(b"\x02" * 32)


def test_one_look_up_for_all_who_ask_at_once(clock: Clock) -> None:
    asked, answer = threading.Semaphore(0), threading.Event()

    def slow(key_id: bytes) -> bytes:
        asked.release()
        assert answer.wait(10)
        return key_id

    look_ups = LookUps(slow, clock)
    with ThreadPoolExecutor(16) as pool:
        found = [pool.submit(look_ups.get, GOOD) for _ in range(16)]
        assert asked.acquire(timeout=10)
        answer.set()
        assert {future.result(10) for future in found} == {GOOD}
    assert not look_ups._running


def test_a_hanging_look_up_holds_up_no_other_one_also_with_the_same_first_byte(
    clock: Clock,
) -> None:
    """They shared a lock by their first byte, which a stranger chose as well."""
    hangs, asked, answer = b"\x01" + bytes(31), threading.Event(), threading.Event()

    def fetch(key_id: bytes) -> bytes:
        if key_id == hangs:
            asked.set()
            assert answer.wait(10)
        return key_id

    look_ups = LookUps(fetch, clock)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(look_ups.get, hangs)
        assert asked.wait(10)
        assert look_ups.get(GOOD) == GOOD
        answer.set()
        assert held.result(10) == hangs


def test_honest_look_ups_during_a_flood() -> None:
    """Each costs 5 ms, and strangers bring 70 made-up ids a second.

    Measured as a ratio, because the machine of this test may be slow.
    """

    def fetch(key_id: bytes) -> bytes:
        time.sleep(0.005)
        if key_id[:1] == b"\x01":
            return key_id
        raise DENIED

    def honest(look_ups: LookUps[bytes]) -> tuple[float, int]:
        """The median time of a look-up in seconds, and how many got no place."""
        times, refused = [], 0
        for _ in range(60):
            started = time.perf_counter()
            try:
                look_ups.get(b"\x01" + os.urandom(31))
            except UnavailableError:
                refused += 1
            else:
                times.append(time.perf_counter() - started)
            time.sleep(0.02)
        return sorted(times)[len(times) // 2], refused

    quiet, _ = honest(LookUps(fetch, time.monotonic))
    look_ups: LookUps[bytes] = LookUps(fetch, time.monotonic)
    over = threading.Event()

    def flood() -> None:
        while not over.wait(1 / 17.5):
            with pytest.raises(ConfideError):
                look_ups.get(b"\x02" + os.urandom(31))

    strangers = [threading.Thread(target=flood) for _ in range(4)]
    _each(strangers, threading.Thread.start)
    busy, refused = honest(look_ups)
    over.set()
    _each(strangers, threading.Thread.join)
    assert busy < 5 * quiet
    assert refused < 60


def _each(threads: list[threading.Thread], what: Callable[[threading.Thread], None]) -> None:
    for thread in threads:
        what(thread)
