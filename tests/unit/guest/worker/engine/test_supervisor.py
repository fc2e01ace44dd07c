"""Engine processes under the supervisor: FAKE engines that print, get ready, end and linger."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from confide.guest.worker.engine import program, supervisor, units
from confide.guest.worker.engine.states import EngineState, EngineStates, read_states
from confide.guest.worker.engine.supervisor import EngineProgram, Supervisor
from tests.support.programs import ROOT
from tests.support.simulated_units import SimulatedUnits

SCRIPT = str(ROOT / "tests/support/scripted_engine.py")


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def is_alive(process: int) -> bool:
    """Whether it runs; a process that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@dataclass
class Engines:
    """A supervisor in a thread, SIMULATED units around it, and what it says."""

    folder: Path
    units: SimulatedUnits
    programs: list[EngineProgram] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    wait_for_gpus: Callable[[], object] | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def add(self, model: str, *orders: str, gpus: tuple[int, ...] = ()) -> None:
        place = self.units.add()
        notes = self.folder / model
        notes.mkdir()
        arguments = [sys.executable, SCRIPT, str(place.socket), str(notes), *orders]
        self.programs.append(EngineProgram(model, arguments, {}, place, gpus))

    def start(self) -> None:
        self.units.folder.mkdir(exist_ok=True)
        names = [program.model for program in self.programs]
        states = EngineStates(names, EngineState.STARTING, self.folder / "states.json")
        whole = Supervisor(
            self.programs,
            states,
            self.stopping,
            self.said.append,
            self.wait_for_gpus,
            self.units.folder,
        )

        def run() -> None:
            try:
                whole.run()
            except BaseException as error:
                self.errors.append(error)

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def stop(self) -> None:
        self.stopping.set()
        if self.thread is not None:
            self.thread.join(20)
            assert not self.thread.is_alive()

    def state(self, model: str) -> EngineState:
        return read_states([model], self.folder / "states.json")[model]

    def starts(self, model: str) -> list[int]:
        """The process id of each start."""
        file = self.folder / model / "started"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def child(self, model: str) -> int:
        file = self.folder / model / "child"
        until(lambda: file.exists() and file.read_text())
        return int(file.read_text())

    def make(self, name: str) -> None:
        (self.folder / name).touch()


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engines]:
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(supervisor, "RESTART_SECONDS", 0.05)
    with SimulatedUnits(tmp_path / "supervisor") as units:
        made = Engines(tmp_path, units)
        yield made
        made.stop()


def test_an_engine_gets_ready(engines: Engines) -> None:
    engines.add("tiny", "wait=go", "ready")
    engines.start()
    until(lambda: engines.starts("tiny"))
    assert engines.state("tiny") == EngineState.STARTING
    engines.make("go")
    until(lambda: engines.state("tiny") == EngineState.READY)
    assert engines.said == ["the engine of the model tiny is ready"]


def test_what_it_prints_is_heard_until_it_is_ready_and_never_after(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "RESTART_SECONDS", 600.0)
    engines.add(
        "tiny", "print=loading", "ready", "wait=go", "print=the patient has", "end=3"
    )  # fmt: skip
    engines.start()
    until(lambda: engines.state("tiny") == EngineState.READY)
    engines.make("go")
    until(lambda: any("has ended" in line for line in engines.said))
    engines.stop()
    assert "tiny: loading" in engines.said
    assert not any("patient" in line for line in engines.said)


def test_what_it_prints_is_bounded(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "MAX_LINES", 3)
    monkeypatch.setattr(units, "MAX_LINE", 10)
    engines.add("tiny", "print=" + "x" * 25, "print=\x1b[2Jclear", "print=more", "ready")
    engines.start()
    until(lambda: engines.state("tiny") == EngineState.READY)
    engines.stop()
    assert engines.said[:-1] == ["tiny: " + "x" * 10, "tiny: " + "x" * 10, "tiny: " + "x" * 5]


def test_control_characters_do_not_reach_the_console(
    engines: Engines, capsys: pytest.CaptureFixture[str]
) -> None:
    engines.add("tiny", "print=\x1b[2Jclear", "ready")
    engines.start()
    until(lambda: engines.state("tiny") == EngineState.READY)
    program.say(engines.said[0])
    assert capsys.readouterr().err == "confide-engine: tiny: \\x1b[2Jclear\n"


def test_one_that_ends_is_started_again_and_the_other_goes_on(engines: Engines) -> None:
    engines.add("ends", "ready", "wait=go", "end=1")
    engines.add("stays", "ready")
    engines.start()
    until(lambda: engines.state("ends") == engines.state("stays") == EngineState.READY)
    engines.make("go")
    until(lambda: len(engines.starts("ends")) > 2)
    assert len(engines.starts("stays")) == 1
    assert engines.state("stays") == EngineState.READY
    first, *_ = engines.starts("ends")
    assert not Path(f"/proc/{first}").exists(), "it was reaped"


@pytest.mark.parametrize(
    ("steps", "steady", "expected"),
    [
        (["end=1"], 600.0, [2.0, 4.0, 5.0, 5.0]),
        # A request that ends the engine does so again and again.
        (["ready", "wait=go", "end=1"], 600.0, [2.0, 4.0, 5.0, 5.0]),
        (["ready", "wait=go", "end=1"], 0.0, [1.0]),
    ],
)
def test_the_delay_grows_while_it_does_not_serve_for_long(
    engines: Engines,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[str],
    steady: float,
    expected: list[float],
) -> None:
    monkeypatch.setattr(supervisor, "STEADY_SECONDS", steady)
    monkeypatch.setattr(supervisor, "RESTART_SECONDS", 1.0)
    monkeypatch.setattr(supervisor, "MAX_RESTART_SECONDS", 5.0)
    delays: list[float | None] = []

    class Hasty(threading.Event):
        """Waits for nothing but a stop, and notes how long it was asked to wait."""

        def wait(self, timeout: float | None = None) -> bool:
            delays.append(timeout)
            return super().wait(0.01)

    engines.stopping = Hasty()
    engines.add("tiny", *steps)
    engines.start()
    if "ready" in steps:
        until(lambda: engines.state("tiny") == EngineState.READY)
        engines.make("go")
    until(lambda: len(engines.starts("tiny")) > 4)
    engines.stop()
    waited = [delay for delay in delays if delay and delay >= 1]
    assert waited[: len(expected)] == expected


def test_nothing_of_an_engine_is_left_when_it_ends(engines: Engines) -> None:
    engines.add("tiny", "child", "ready", "wait=go", "end=1")
    engines.start()
    child = engines.child("tiny")
    until(lambda: engines.state("tiny") == EngineState.READY)
    assert is_alive(child)
    engines.make("go")
    until(lambda: not is_alive(child))


def test_one_that_ends_is_not_started_again_before_the_gpus_are_ready(engines: Engines) -> None:
    asked: list[EngineState] = []

    def wait_for_gpus() -> None:
        asked.append(engines.state("tiny"))
        while len(asked) > 1 and not (engines.folder / "ready again").exists():
            if engines.stopping.wait(0.01):
                break

    engines.wait_for_gpus = wait_for_gpus
    engines.add("tiny", "ready", "wait=go", "end=1", gpus=(0,))
    engines.start()
    until(lambda: engines.state("tiny") == EngineState.READY)
    engines.make("go")
    until(lambda: len(asked) == 2)
    time.sleep(0.2)
    assert len(engines.starts("tiny")) == 1
    assert engines.state("tiny") == EngineState.GPUS_NOT_READY
    engines.make("ready again")
    until(lambda: len(engines.starts("tiny")) > 1)
    assert asked[:2] == [EngineState.GPUS_NOT_READY] * 2


def test_models_that_share_a_gpu_load_one_after_another(engines: Engines) -> None:
    engines.add("first", "wait=loaded", "ready", gpus=(0, 1))
    engines.add("second", "wait=loaded", "ready", gpus=(1, 2))
    engines.add("elsewhere", "ready", gpus=(3,))
    engines.start()
    until(lambda: engines.state("elsewhere") == EngineState.READY)
    until(lambda: engines.starts("first") or engines.starts("second"))
    time.sleep(0.2)
    assert len(engines.starts("first")) + len(engines.starts("second")) == 1
    engines.make("loaded")
    until(lambda: engines.state("first") == engines.state("second") == EngineState.READY)


def test_one_that_waits_for_a_gpu_stops_too(engines: Engines) -> None:
    engines.add("first", "wait=never", gpus=(0,))
    engines.add("second", "wait=never", gpus=(0,))
    engines.start()
    until(lambda: engines.starts("first") or engines.starts("second"))
    engines.stop()
    assert not (engines.starts("first") and engines.starts("second"))


def test_an_engine_of_an_earlier_supervisor_is_ended_first(engines: Engines) -> None:
    engines.add("tiny", "child", "ready")
    engines.start()
    child = engines.child("tiny")
    until(lambda: engines.state("tiny") == EngineState.READY)
    engines.stop()
    assert is_alive(child), "the service manager ends units, not the supervisor"
    engines.stopping = threading.Event()
    engines.start()
    until(lambda: len(engines.starts("tiny")) == 2)
    assert not is_alive(child)
    until(lambda: engines.state("tiny") == EngineState.READY)


# A taken engine: code of an attacker as the engine's user.


def test_what_a_taken_engine_leaves_behind_says_nothing_at_the_next_start(
    engines: Engines,
) -> None:
    """The review's demonstration: it leaves a prompt for its successor, whose start is heard."""
    engines.add("tiny", "child", "print=EXFIL the patient has", "ready", "wait=go", "end=9")
    engines.units.folder.mkdir()
    (engines.units.folder / "quiet").mkdir()
    (engines.units.folder / "quiet/1").touch()  # it was ready once in this boot
    engines.start()
    until(lambda: engines.state("tiny") == EngineState.READY)
    child = engines.child("tiny")
    engines.make("go")
    until(lambda: len(engines.starts("tiny")) > 1)
    assert not is_alive(child), "not even one with a session of its own"
    engines.stop()
    assert not any("EXFIL" in line for line in engines.said)


def test_a_supervisor_that_was_started_again_knows_who_was_ready(engines: Engines) -> None:
    engines.add("tiny", "print=loading", "ready")
    engines.start()
    until(lambda: engines.state("tiny") == EngineState.READY)
    engines.stop()
    assert engines.said[0] == "tiny: loading"
    engines.said.clear()
    engines.stopping = threading.Event()
    engines.start()
    until(lambda: len(engines.starts("tiny")) == 2)
    until(lambda: engines.state("tiny") == EngineState.READY)
    assert not any("loading" in line for line in engines.said)


def test_another_user_s_socket_is_no_engine(engines: Engines) -> None:
    """An engine puts a socket of its own, or a link to another's, where a third one listens."""
    engines.add("tiny", "ready")
    program = engines.programs[0]
    engines.programs[0] = replace(program, place=replace(program.place, user=os.getuid() + 1))
    engines.start()
    until(lambda: program.place.socket.exists())
    time.sleep(0.3)
    assert engines.state("tiny") == EngineState.STARTING


def test_endless_output_is_read_and_thrown_away(engines: Engines) -> None:
    """Otherwise the engine would wait. Bytes without an end of line are lines, too."""
    engines.add("tiny", "ready", "wait=go", "flood", "end=3")
    engines.start()
    until(lambda: engines.state("tiny") == EngineState.READY)
    engines.make("go")
    until(lambda: any("has ended" in line for line in engines.said))
    assert not any("xxx" in line for line in engines.said)


def test_one_that_answers_no_longer_is_ended_and_the_other_goes_on(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "HEALTH_SECONDS", 1.0)
    monkeypatch.setattr(supervisor, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(supervisor, "WEDGED_SECONDS", 4.0)
    engines.add("wedged", "ready", "wait=go", "slow")
    engines.add("stays", "ready")
    engines.start()
    until(lambda: engines.state("wedged") == engines.state("stays") == EngineState.READY)
    engines.make("go")
    until(lambda: len(engines.starts("wedged")) > 1)
    assert "the engine of the model wedged does not answer" in engines.said
    assert len(engines.starts("stays")) == 1
    assert engines.state("stays") == EngineState.READY


def test_one_that_never_gets_ready_is_ended(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOAD_SECONDS", 5.0)
    engines.add("tiny", "wait=never", gpus=(0,))
    engines.add("waits", "ready", gpus=(0,))
    engines.start()
    until(lambda: engines.state("waits") == EngineState.READY)


def test_too_many_starts_are_refused_and_said(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "START_SECONDS", 2.0)
    engines.units.limit = 3
    engines.add("tiny", "ready", "end=1")
    engines.start()
    until(lambda: any("started too often" in line for line in engines.said))
    assert len(engines.starts("tiny")) == 3
    assert engines.state("tiny") in (EngineState.STARTING, EngineState.ENDED)


def test_an_engine_is_drained_and_started_anew(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "RECYCLE_SECONDS", (0.1, 0.2))
    monkeypatch.setattr(supervisor, "DRAIN_SECONDS", 0.3)
    engines.add("tiny", "child", "ready")
    engines.start()
    child = engines.child("tiny")
    until(lambda: engines.state("tiny") == EngineState.DRAINING)
    assert is_alive(child), "its requests go on"
    time.sleep(0.15)
    assert is_alive(child)
    until(lambda: len(engines.starts("tiny")) > 1)
    assert not is_alive(child)
    until(lambda: engines.state("tiny") == EngineState.READY)
    assert not any("starts again in" in line for line in engines.said)
