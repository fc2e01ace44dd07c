"""What a program takes on, and what it refuses."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import pytest

from confide.errors import UnavailableError
from confide.net.admission import ALWAYS, MAX_LAG, MIN_MEMORY, Admission, Bodies, Pulse, free_memory


class Measured(Pulse):
    """What a test says was measured."""

    def __init__(self, lag: float = 0.0, memory: float = math.inf) -> None:
        super().__init__()
        self._lag = lag
        self.memory = memory
        self.wanted: list[bool] = []

    def want(self, wanted: bool) -> None:
        self.wanted.append(wanted)


def filled(count: int, most: int, pulse: Pulse | None = None) -> Admission:
    places = Admission(most, pulse)
    assert [places.enter() for _ in range(count)] == [""] * count
    return places


def test_no_more_than_the_most() -> None:
    places = filled(3, 3)
    assert places.enter() == "3 at once"
    places.leave()
    assert places.enter() == ""
    assert places.enter()


@pytest.mark.parametrize(
    ("lag", "memory", "reason"),
    [
        (MAX_LAG, math.inf, ""),
        (MAX_LAG + 0.001, math.inf, "64 at once, and a delay of 31 ms"),
        (0.0, MIN_MEMORY, ""),
        (0.0, MIN_MEMORY - 1, "64 at once, and 128 MiB free"),
    ],
)
def test_what_was_measured_counts_beyond_the_first(lag: float, memory: float, reason: str) -> None:
    pulse = Measured(lag=lag, memory=memory)
    places = filled(ALWAYS, 1000, pulse)
    assert places.enter() == reason


def test_nothing_is_measured_for_a_few() -> None:
    pulse = Measured()
    places = filled(ALWAYS // 2 - 1, 1000, pulse)
    assert not any(pulse.wanted)
    places.enter()
    assert pulse.wanted[-1]
    places.leave()
    assert not pulse.wanted[-1]


def wait_for(condition: str, pulse: Pulse) -> None:
    deadline = time.monotonic() + 20
    while not eval(condition, {"pulse": pulse}):
        assert time.monotonic() < deadline, condition
        time.sleep(0.01)


def test_a_process_that_is_held_up_runs_late(monkeypatch: pytest.MonkeyPatch) -> None:
    held_up = threading.Event()
    sleep = time.sleep
    monkeypatch.setattr(
        "confide.net.admission.time.sleep", lambda seconds: sleep(seconds + 0.1 * held_up.is_set())
    )
    pulse = Pulse()
    assert pulse.lag == 0
    held_up.set()
    pulse.want(True)
    wait_for("pulse.lag > 0.03", pulse)
    held_up.clear()
    wait_for("pulse.lag < 0.03", pulse)
    pulse.want(False)
    wait_for("pulse.lag == 0", pulse)


def test_a_process_that_does_not_run_is_late_before_it_has_measured() -> None:
    pulse = Pulse()
    pulse._due = time.monotonic() - 5
    assert pulse.lag >= 5


def test_free_memory(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       24000000 kB\nMemAvailable:   16 kB\n")
    assert free_memory(file) == 16384
    assert free_memory(tmp_path / "nothing") == math.inf


def test_bodies() -> None:
    bodies = Bodies(100)
    bodies.take(60)
    with pytest.raises(UnavailableError) as caught:
        bodies.take(41)
    assert caught.value.code == "busy"
    bodies.take(40)
    bodies.give(60)
    bodies.take(60)
