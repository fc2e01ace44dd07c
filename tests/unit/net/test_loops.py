"""Work that must go on goes on, whatever a round of it raises, and no thread is without this."""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from confide.errors import ConfideError, UnavailableError
from confide.net.loops import FIRST_PAUSE, MAX_PAUSE, describe, every, run_loop, start_loop

ROOT = Path(__file__).resolve().parents[3]

ONE_SHOT = {
    "guest/coordinator/app.py": "cuts one upload off",
    "guest/worker/engine/program.py": "sets one event after a signal",
    "guest/worker/engine/supervisor.py": "engines whose failure ends all",
    "client/proxy/keys.py": "uploads one key",
    "net/calls.py": "cuts one call off",
    "net/front.py": "answer one request each",
    "net/loops.py": "is the supervisor",
}
"""Files of the product that start threads, and why none of these is to live for ever."""

_STARTS = {"Thread", "Timer", "ThreadPoolExecutor", "start_new_thread"}


class Waits(threading.Event):
    """Is set after some waits. `seconds` are those that were asked for."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._most = most

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.seconds.append(timeout)
        return len(self.seconds) > self._most or self.is_set()


def threads(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in _STARTS:
                yield name
        elif isinstance(node, ast.ClassDef):
            names = (base.attr for base in node.bases if isinstance(base, ast.Attribute))
            yield from (name for name in names if name in _STARTS)


def test_no_other_thread_is_to_live_for_ever() -> None:
    """A new one uses `start_loop`, or says here why it may end."""
    product = ROOT / "py/confide"
    found = {str(path.relative_to(product)) for path in product.rglob("*.py") if any(threads(path))}
    assert found == set(ONE_SHOT)


@pytest.mark.parametrize(
    "kind",
    [
        RuntimeError,
        RecursionError,
        MemoryError,
        TypeError,
        SystemExit,
        KeyboardInterrupt,
        GeneratorExit,
        BaseException,
    ],
)
def test_whatever_a_round_raises_there_is_another_one(kind: type[BaseException]) -> None:
    rounds, said = [0], list[str]()

    def step() -> float:
        rounds[0] += 1
        if rounds[0] < 4:
            raise kind("the key is 1234")
        return 7.0

    waits = Waits(6)
    run_loop("the work", step, waits, 2.0, say=said.append, jitter=lambda: 1.0)
    assert waits.seconds == [2.0, 1.0, 2.0, 4.0, 7.0, 7.0, 7.0]
    assert said[0] == f"the work failed: {kind.__name__}; again in 1.0 s"
    assert len(said) == 3 and not [line for line in said if "1234" in line]


def test_a_real_recursion() -> None:
    def deep(level: int) -> int:
        return deep(level + 1) + 1

    said: list[str] = []
    run_loop("the work", lambda: float(deep(0)), Waits(2), say=said.append)
    assert len(said) == 2 and "RecursionError" in said[0]


def test_pauses_grow_to_a_cap_with_jitter_and_begin_anew() -> None:
    fails = [True] * 10 + [False, True]

    def step() -> float:
        if fails.pop(0):
            raise OSError
        return 0.25

    for jitter in (0.0, 1.0):
        fails[:] = [True] * 10 + [False, True]
        waits = Waits(12)
        run_loop("the work", step, waits, say=lambda _: None, jitter=lambda: jitter)  # noqa: B023
        share = 0.5 + jitter / 2
        expected = [min(FIRST_PAUSE * 2**n, MAX_PAUSE) * share for n in range(10)]
        assert waits.seconds == [0.0, *expected, 0.25, FIRST_PAUSE * share]


def test_a_console_that_is_gone_ends_nothing() -> None:
    def say(_: str) -> None:
        raise BrokenPipeError

    def step() -> float:
        raise OSError

    waits = Waits(3)
    run_loop("the work", step, waits, say=say)
    assert len(waits.seconds) == 4


def test_of_our_errors_the_words_are_said_and_cut() -> None:
    error = UnavailableError("peer-lost", "m" * 1000)
    assert describe(error) == "m" * 400
    assert describe(ValueError("the key is 1234")) == "ValueError"
    odd = ConfideError("x", 1)  # type: ignore[arg-type]
    assert describe(odd) == "ConfideError"


def test_the_line_is_one_and_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    def step() -> float:
        raise UnavailableError("x", "a\n\x1b[2Jb")

    run_loop("the work", step, Waits(1))
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "\x1b" not in said
    assert said.startswith("confide: the work failed: a\\n\\x1b[2Jb; again in ")


def test_work_without_which_the_program_must_not_go_on() -> None:
    ended: list[BaseException] = []

    def step() -> float:
        raise SystemExit(3)

    waits = Waits(1)
    run_loop("the work", step, waits, end=ended.append, say=lambda _: None)
    assert isinstance(ended[0], SystemExit)


def test_a_thread_that_is_stopped_by_its_own_step() -> None:
    stop = threading.Event()
    calls: list[str] = []
    start_loop("done", every(0.0, lambda: calls.append("a"), stop.set), stop=stop)
    assert stop.wait(10)
    _gone("done")
    assert calls == ["a"]


def test_a_stop_ends_a_pause() -> None:
    stop, asked = threading.Event(), threading.Event()
    start_loop("long", every(3600.0, asked.set), stop=stop)
    assert asked.wait(10)
    stop.set()
    _gone("long")


def _gone(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(10)
            assert not thread.is_alive()


def test_every_calls_all_in_their_order() -> None:
    said: list[str] = []
    work: list[Callable[[], None]] = [lambda: said.append("a"), lambda: said.append("b")]
    assert every(3.0, *work)() == 3.0
    assert said == ["a", "b"]
