"""Engine processes under the supervisor: FAKE engines that print, get ready, end and linger."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from confide.guest.worker.engine import program, supervisor
from confide.guest.worker.engine.states import EngineState, EngineStates, read_states
from confide.guest.worker.engine.supervisor import EngineProgram, Supervisor
from tests.support.programs import ROOT, free_port

SCRIPT = str(ROOT / "tests/support/scripted_engine.py")


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
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
    """A supervisor in a thread, and what it says."""

    folder: Path
    programs: list[EngineProgram] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    wait_for_gpus: Callable[[], object] | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def add(self, model: str, *orders: str, gpus: tuple[int, ...] = ()) -> None:
        port = free_port()
        arguments = [sys.executable, SCRIPT, str(port), str(self.folder), *orders]
        self.programs.append(EngineProgram(model, arguments, {}, port, gpus))

    def start(self) -> None:
        names = [program.model for program in self.programs]
        states = EngineStates(names, EngineState.STARTING, self.folder / "states.json")
        whole = Supervisor(
            self.programs, states, self.stopping, self.said.append, self.wait_for_gpus
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
        (port,) = [program.port for program in self.programs if program.model == model]
        file = self.folder / f"started-{port}"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def child(self, model: str) -> int:
        (port,) = [program.port for program in self.programs if program.model == model]
        file = self.folder / f"child-{port}"
        until(lambda: file.exists() and file.read_text())
        return int(file.read_text())

    def make(self, name: str) -> None:
        (self.folder / name).touch()


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engines]:
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(supervisor, "RESTART_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 1.0)
    made = Engines(tmp_path)
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
    until(lambda: any("ended with status 3" in line for line in engines.said))
    engines.stop()
    assert "tiny: loading" in engines.said
    assert not any("patient" in line for line in engines.said)


def test_what_it_prints_is_bounded(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MAX_LINES", 3)
    monkeypatch.setattr(supervisor, "MAX_LINE", 10)
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


def test_the_delay_grows_while_it_does_not_get_ready(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "RESTART_SECONDS", 1.0)
    monkeypatch.setattr(supervisor, "MAX_RESTART_SECONDS", 5.0)
    delays: list[float | None] = []

    class Hasty(threading.Event):
        """Waits for nothing but a stop, and notes how long it was asked to wait."""

        def wait(self, timeout: float | None = None) -> bool:
            delays.append(timeout)
            return super().wait(0.01)

    engines.stopping = Hasty()
    engines.add("tiny", "end=1")
    engines.start()
    until(lambda: len(engines.starts("tiny")) > 4)
    engines.stop()
    waited = [delay for delay in delays if delay and delay >= 1]
    assert waited[:4] == [2.0, 4.0, 5.0, 5.0]


def test_nothing_of_an_engine_is_left_when_it_ends(engines: Engines) -> None:
    engines.add("tiny", "child", "ready", "wait=go", "end=1")
    engines.start()
    child = engines.child("tiny")
    until(lambda: engines.state("tiny") == EngineState.READY)
    assert is_alive(child)
    engines.make("go")
    until(lambda: not is_alive(child))


def test_stop_ends_every_process(engines: Engines) -> None:
    engines.add("deaf", "deaf", "child", "ready")
    engines.add("loading", "wait=never")
    engines.start()
    child = engines.child("deaf")
    until(lambda: engines.state("deaf") == EngineState.READY and engines.starts("loading"))
    engines.stop()
    left = [*engines.starts("deaf"), *engines.starts("loading")]
    assert not any(Path(f"/proc/{process}").exists() for process in left)
    until(lambda: not is_alive(child))
    assert not engines.errors


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
    engines.add("first", "wait=first", "ready", gpus=(0, 1))
    engines.add("second", "wait=first", "ready", gpus=(1, 2))
    engines.add("elsewhere", "ready", gpus=(3,))
    engines.start()
    until(lambda: engines.state("elsewhere") == EngineState.READY)
    until(lambda: engines.starts("first") or engines.starts("second"))
    time.sleep(0.2)
    assert len(engines.starts("first")) + len(engines.starts("second")) == 1
    engines.make("first")
    until(lambda: engines.state("first") == engines.state("second") == EngineState.READY)


def test_one_that_waits_for_a_gpu_stops_too(engines: Engines) -> None:
    engines.add("first", "wait=never", gpus=(0,))
    engines.add("second", "wait=never", gpus=(0,))
    engines.start()
    until(lambda: engines.starts("first") or engines.starts("second"))
    engines.stop()
    assert not (engines.starts("first") and engines.starts("second"))


def test_a_program_that_is_not_there_ends_the_supervisor(engines: Engines) -> None:
    engines.add("stays", "ready")
    engines.programs.append(EngineProgram("gone", ["/nonexistent/python"], {}, free_port()))
    engines.start()
    until(lambda: engines.errors)
    assert isinstance(engines.errors[0], FileNotFoundError)
    assert not any(Path(f"/proc/{process}").exists() for process in engines.starts("stays"))


def test_the_engine_inherits_nothing(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD_LIKE", "/hostile.so")
    engines.add("tiny", "ready")
    engines.start()
    until(lambda: engines.starts("tiny"))
    environment = Path(f"/proc/{engines.starts('tiny')[0]}/environ").read_bytes()
    assert b"LD_PRELOAD_LIKE" not in environment
    descriptors = os.listdir(f"/proc/{engines.starts('tiny')[0]}/fd")  # noqa: PTH208
    assert {"0", "1", "2"} <= set(descriptors)
    for number in ("0", "1"):
        target = os.readlink(f"/proc/{engines.starts('tiny')[0]}/fd/{number}")  # noqa: PTH115
        assert target == "/dev/null"
