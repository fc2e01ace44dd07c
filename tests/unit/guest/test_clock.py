"""A machine whose clock was set while it ran ends. Clocks here are injected, none is turned."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NoReturn

import pytest

from confide.guest import clock as clock_module
from confide.guest.clock import WallClock
from confide.guest.ending import MachineEndsError
from tests.support.simulated_machine import NOW, Clock


def ended(error: MachineEndsError) -> NoReturn:
    raise error


class Turned:
    """A machine's two clocks, and how far somebody has turned the first."""

    def __init__(self) -> None:
        self.now, self.monotonic = Clock(), Clock(100)
        self.clock = WallClock(now=self.now, monotonic=self.monotonic, end=ended)

    def run(self, seconds: float, *, turned: float = 0.0) -> float:
        self.monotonic.now += seconds
        self.now.now += seconds + turned
        return self.clock()


@pytest.fixture
def turned() -> Turned:
    return Turned()


def test_a_clock_that_runs(turned: Turned) -> None:
    for _ in range(90):
        turned.run(86400)
    assert turned.clock() == turned.clock() == NOW + 90 * 86400


@pytest.mark.parametrize("seconds", [0.001, 1, 86400])
def test_a_clock_that_goes_back(turned: Turned, seconds: float) -> None:
    turned.run(7200)
    with pytest.raises(MachineEndsError, match="turned back"):
        turned.run(0, turned=-seconds)


def test_a_clock_that_goes_back_while_nobody_looks_has_parted(turned: Turned) -> None:
    """It is ahead of the last look, and still an hour behind the clock that counts."""
    turned.run(86400, turned=-300)
    with pytest.raises(MachineEndsError, match="has gone -301 s"):
        turned.run(86400, turned=-1)


def test_a_clock_that_is_turned_ahead(turned: Turned) -> None:
    turned.run(10, turned=300)
    with pytest.raises(MachineEndsError, match=r"has gone \+301 s"):
        turned.run(10, turned=1)


def test_small_turns_add_up(turned: Turned) -> None:
    """Else a step of 299 s each hour would be a clock of the host's choice."""
    turned.run(3600, turned=299)
    with pytest.raises(MachineEndsError):
        turned.run(3600, turned=299)


def test_many_threads_read_it_and_none_sees_it_go_back() -> None:
    """Two that read and then compare in another order would end an honest machine."""
    failures: list[BaseException] = []
    clock = WallClock(end=ended)

    def read() -> None:
        try:
            for _ in range(3000):
                clock()
        except MachineEndsError as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def broken() -> float:
    raise OSError("no clock")


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        (lambda turned: setattr(turned.now, "now", NOW - 10), "turned back by 10.000 s"),
        (lambda turned: setattr(turned.now, "now", NOW + 301), r"has gone \+301 s"),
        (lambda turned: setattr(turned.clock, "_now", broken), "watch of its clock failed: OSErr"),
    ],
)
def test_the_watch_ends_the_machine_that_nobody_asks(
    turned: Turned, monkeypatch: pytest.MonkeyPatch, turn: Callable[[Turned], None], said: str
) -> None:
    """Whatever happens to the watch itself ends the machine, too."""
    over = threading.Event()
    errors: list[MachineEndsError] = []

    def end(error: MachineEndsError) -> NoReturn:
        errors.append(error)
        over.set()
        threading.Event().wait()  # as a process that has ended: nothing goes on
        raise error

    monkeypatch.setattr(clock_module, "WATCH_SECONDS", 0.001)
    turned.clock._end = end
    turned.clock.watch()
    time.sleep(0.05)
    assert errors == []
    turn(turned)
    assert over.wait(10)
    with pytest.raises(MachineEndsError, match=said):
        raise errors[0]
