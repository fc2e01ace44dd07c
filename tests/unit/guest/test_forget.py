"""Keys are forgotten each second, or the machine ends."""

from __future__ import annotations

import threading
from typing import NoReturn

import pytest

from confide.guest import forget
from confide.guest.ending import MachineEndsError


class Ended(Exception):
    pass


def end(error: MachineEndsError) -> NoReturn:
    raise Ended(str(error))


def test_each_step_each_second() -> None:
    said: list[object] = []

    def sleep(seconds: float) -> None:
        said.append(seconds)
        if len(said) > 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        forget.run((lambda: said.append("a"), lambda: said.append("b")), sleep=sleep, end=end)
    assert said == [1.0, "a", "b", 1.0, "a", "b", 1.0]


def test_a_step_that_fails_ends_the_machine() -> None:
    """A thread that ended by itself would leave the keys in memory, and nobody would see it."""

    def fail() -> None:
        raise RuntimeError("the key is 1234")

    with pytest.raises(Ended) as caught:
        forget.run((fail,), sleep=lambda _: None, end=end)
    assert "RuntimeError" in str(caught.value) and "1234" not in str(caught.value)


def test_it_runs_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forget, "FORGET_SECONDS", 0.001)
    called = threading.Event()
    forget.forget_each_second(called.set)
    assert called.wait(10)
