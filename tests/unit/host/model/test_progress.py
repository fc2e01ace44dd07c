"""What a person sees of a long job."""

from __future__ import annotations

import io

import pytest

from confide.host.model.progress import Meter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_a_line_now_and_then() -> None:
    stream, clock = io.StringIO(), Clock()
    meter = Meter("packing", 4_000_000_000, stream, clock)
    for second in range(1, 25):
        clock.now = second
        meter(100_000_000)
    assert stream.getvalue().splitlines() == [
        "packing: 1.00 of 4.00 GB (25 %), 100 MB/s, 30 s left",
        "packing: 2.00 of 4.00 GB (50 %), 100 MB/s, 20 s left",
    ]


def test_a_terminal_has_one_line_and_ends_it() -> None:
    stream, clock = Terminal(), Clock()
    meter = Meter("packing", 2_000_000, stream, clock)
    clock.now = 0.1
    meter(500_000)
    assert stream.getvalue() == ""
    clock.now = 1.0
    meter(500_000)
    clock.now = 1.1
    meter(1_000_000)
    first, second = stream.getvalue().split("\r")[1:]
    assert "(50 %), 1 MB/s, 1 s left" in first
    assert "(100 %)" in second
    assert second.endswith("\n")


@pytest.mark.parametrize(
    ("seconds", "left"), [(59, "59 s"), (61, "1 min 1 s"), (7320, "2 h 2 min")]
)
def test_time_left(seconds: int, left: str) -> None:
    meter = Meter("x", 1000 * (seconds + 1), io.StringIO(), Clock())
    meter(1000)
    assert meter.line(1.0).endswith(f", {left} left")
