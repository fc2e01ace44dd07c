"""Keys are forgotten each second, or the machine ends."""

from __future__ import annotations

import threading
from typing import NoReturn

import pytest

from confide.guest import forget
from confide.guest.ending import MachineEndsError


def end(_: MachineEndsError) -> NoReturn:
    raise AssertionError("it does not end")


def test_each_step_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forget, "FORGET_SECONDS", 0.001)
    called: list[str] = []
    over = threading.Event()

    def second() -> None:
        called.append("b")
        if len(called) >= 6:
            over.set()

    forget.forget_each_second(lambda: called.append("a"), second, end=end)
    assert over.wait(10)
    assert called[:6] == ["a", "b"] * 3


def test_a_step_that_fails_ends_the_machine() -> None:
    """A thread that ended by itself would leave the keys in memory, and nobody would see it."""
    ended = threading.Event()
    said: list[str] = []

    def end(error: MachineEndsError) -> NoReturn:
        said.append(str(error))
        ended.set()
        threading.Event().wait()  # as a process that has ended: nothing goes on
        raise error

    def fail() -> None:
        raise RuntimeError("the key is 1234")

    forget.forget_each_second(fail, end=end)
    assert ended.wait(10)
    assert said == ["the forgetting of keys failed: RuntimeError"]
