"""The replay window: each counter once, in any order, and none from below."""

from __future__ import annotations

import random
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import PolicyError
from confide.guest.worker.replay import WINDOW, ReplayWindow


def fresh(window: ReplayWindow, counter: int) -> bool:
    try:
        window.check(counter)
    except PolicyError as error:
        assert error.code == "replay"
        return False
    return True


def test_each_counter_once() -> None:
    window = ReplayWindow()
    assert [fresh(window, counter) for counter in (0, 1, 0, 1, 3, 2, 2)] == [
        True, True, False, False, True, True, False,
    ]  # fmt: skip


def test_any_order_within_the_window() -> None:
    window, counters = ReplayWindow(), list(range(WINDOW))
    random.Random(1).shuffle(counters)
    assert all(fresh(window, counter) for counter in counters)
    assert not any(fresh(window, counter) for counter in counters)


def test_below_the_window() -> None:
    window = ReplayWindow()
    assert fresh(window, WINDOW)
    assert fresh(window, 1), "the lowest one of the window"
    assert not fresh(window, 0), "below it, although it was never seen"
    assert fresh(window, WINDOW + 1)
    assert not fresh(window, 1)


@pytest.mark.parametrize("jump", [1, 2, WINDOW - 1, WINDOW, WINDOW + 1, 2**64 - 1])
def test_a_jump_forgets_nothing_within_the_window(jump: int) -> None:
    window = ReplayWindow()
    fresh(window, 0)
    assert fresh(window, jump)
    assert not fresh(window, jump)
    assert not fresh(window, 0)


@given(st.lists(st.integers(0, 3 * WINDOW), max_size=60))
def test_as_a_set_that_forgets_nothing(counters: list[int]) -> None:
    window = ReplayWindow()
    seen: set[int] = set()
    for counter in counters:
        highest = max(seen, default=-1)
        expected = counter not in seen and counter > highest - WINDOW
        assert fresh(window, counter) == expected
        if expected:
            seen.add(counter)


def test_memory_is_bounded() -> None:
    window = ReplayWindow()
    for counter in range(0, 100 * WINDOW, 7):
        fresh(window, counter)
    assert sys.getsizeof(window._seen) < 700


def test_one_of_many_threads_wins() -> None:
    window, results = ReplayWindow(), []
    barrier = threading.Barrier(8)

    def run() -> None:
        barrier.wait()
        for counter in range(200):
            results.append(fresh(window, counter))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert results.count(True) == 200
