"""The engines' program: where models are placed, what is waited for, and what ends in an error."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from confide.errors import ConfideError, ConfigError, FormatError, UnavailableError
from confide.guest.worker.engine import cpu, gpu, program
from confide.guest.worker.engine.engines import Engines
from confide.guest.worker.engine.models_file import ServedModel, encode_models
from confide.guest.worker.engine.place import Place, place_of
from confide.guest.worker.engine.states import (
    MAX_STATES,
    EngineState,
    EngineStates,
    read_states,
)
from confide.guest.worker.engine.supervisor import EngineProgram
from confide.guest.worker.role import read_role
from confide.protocol.engine_options import EngineOptions
from confide.protocol.roles import Role

GIB = 1 << 30
H100 = 80 * GIB


def model(folder: Path, name: str, *, weights: int = 1000, **options: int) -> ServedModel:
    """A model's folder with weights of so many bytes (sparse)."""
    path = folder / name
    path.mkdir()
    with (path / "model.safetensors").open("wb") as file:
        file.truncate(weights)
    return ServedModel(name, path, bytes(32), ("chat",), EngineOptions(**options))  # type: ignore[arg-type]


class SimulatedGpus:
    """Answers of the driver, one for each question; the last one stays."""

    def __init__(self, *answers: bool | ConfideError, memory: tuple[int, ...] = (H100,)) -> None:
        self.answers = list(answers)
        self._memory = memory

    def ready(self) -> bool:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, ConfideError):
            raise answer
        return answer

    def memory(self) -> tuple[int, ...]:
        return self._memory


class Machine:
    """A worker around `program.run`, without processes: what would run is in `programs`."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, gpus: SimulatedGpus) -> None:
        self.models_file = folder / "models.json"
        self.states_file = folder / "states.json"
        self.programs: list[EngineProgram] | None = None
        self.wait_for_gpus: Any = None
        self.stopping = threading.Event()
        machine = self

        class NoProcesses:
            def __init__(self, programs: list[EngineProgram], *others: object) -> None:
                machine.programs = programs
                machine.wait_for_gpus = others[-2]

            def run(self) -> None:
                pass

        patch.setattr(program, "MODELS_FILE", self.models_file)
        patch.setattr(program, "Supervisor", NoProcesses)
        patch.setattr(program, "GPU_POLL_SECONDS", 0.01)
        patch.setattr(
            program,
            "EngineStates",
            lambda names, state: EngineStates(names, state, self.states_file),
        )
        patch.setattr("confide.guest.attest.nvidia.NvidiaGpus", lambda: gpus)

    def run(self, role: Role, *models: ServedModel) -> None:
        self.models_file.write_bytes(encode_models(models))
        program.run(role, self.stopping)

    def run_in_thread(self, role: Role, *models: ServedModel) -> threading.Thread:
        thread = threading.Thread(target=self.run, args=(role, *models))
        thread.start()
        return thread

    def state(self, name: str) -> EngineState:
        return read_states([name], self.states_file)[name]

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch, SimulatedGpus(True, memory=(H100, H100)))


def test_each_model_has_a_place(machine: Machine, tmp_path: Path) -> None:
    one, two = model(tmp_path, "one"), model(tmp_path, "two")
    machine.run(Role.WORKER_CPU, one, two)
    assert machine.programs == [
        EngineProgram(
            served.name,
            cpu.command(served, socket=place_of(number).socket, gpus=()),
            cpu.environment(()),
            place_of(number),
        )
        for served, number in ((one, 1), (two, 2))
    ]


def test_models_on_gpus(machine: Machine, tmp_path: Path) -> None:
    one = model(tmp_path, "one", gpu_memory_percent=40)
    two = model(tmp_path, "two", tensor_parallel_size=2, gpu_memory_percent=50)
    machine.run(Role.WORKER_GPU, one, two)
    assert machine.programs is not None
    assert [program.gpus for program in machine.programs] == [(0,), (0, 1)]
    assert machine.programs[1].arguments == gpu.command(two, socket=place_of(2).socket, gpus=(0, 1))
    assert machine.programs[1].environment == gpu.environment((0, 1))


def test_nothing_runs_before_the_gpus_are_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_gpu = UnavailableError("no-gpu", "there is no GPU")
    gpus = SimulatedGpus(no_gpu, no_gpu, False, False)
    machine = Machine(tmp_path, monkeypatch, gpus)
    thread = machine.run_in_thread(Role.WORKER_GPU, model(tmp_path, "one"))
    machine.until(lambda: len(gpus.answers) == 1)
    assert machine.state("one") == EngineState.GPUS_NOT_READY
    before = machine.programs
    gpus.answers = [True]
    thread.join(10)
    assert before is None and machine.programs is not None
    said = capsys.readouterr().err
    assert said.count("there is no GPU") == 1
    assert said.count("they are not attested") == 1


def test_gpus_are_asked_again_before_each_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus = SimulatedGpus(True)
    machine = Machine(tmp_path, monkeypatch, gpus)
    machine.run(Role.WORKER_GPU, model(tmp_path, "one"))
    assert machine.wait_for_gpus is not None
    assert machine.wait_for_gpus() == [H100]
    assert capsys.readouterr().err == ""
    gpus.answers = [False]
    thread = threading.Thread(target=machine.wait_for_gpus)
    thread.start()
    thread.join(0.1)
    assert thread.is_alive(), "nothing starts"
    machine.stopping.set()
    thread.join(10)
    assert capsys.readouterr().err.count("waiting for the GPUs: ") == 1


def test_gpus_that_never_get_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch, SimulatedGpus(False))
    thread = machine.run_in_thread(Role.WORKER_GPU, model(tmp_path, "one"))
    machine.until(lambda: machine.states_file.exists())
    machine.stopping.set()
    thread.join(10)
    assert not thread.is_alive()
    assert machine.programs is None


@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({"tensor_parallel_size": 4}, EngineState.TOO_FEW_GPUS),
        ({"weights": 73 * GIB, "gpu_memory_percent": 80}, EngineState.TOO_LARGE),
        ({"gpu_memory_percent": 95}, EngineState.GPUS_TAKEN),
    ],
)
def test_models_that_do_not_fit_are_one_error_and_nothing_runs(
    machine: Machine,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, int],
    state: EngineState,
) -> None:
    small = model(tmp_path, "small", gpu_memory_percent=10, tensor_parallel_size=2)
    thread = machine.run_in_thread(Role.WORKER_GPU, small, model(tmp_path, "large", **options))
    machine.until(lambda: machine.states_file.exists() and machine.state("large") == state)
    assert machine.state("small") == state
    machine.stopping.set()
    thread.join(10)
    assert machine.programs is None
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"confide-engine: {state}: ")
    assert "large" in line


def test_a_model_that_does_not_fit_into_memory(machine: Machine, tmp_path: Path) -> None:
    thread = machine.run_in_thread(Role.WORKER_CPU, model(tmp_path, "large", weights=1 << 43))
    machine.until(
        lambda: machine.states_file.exists() and machine.state("large") == EngineState.TOO_LARGE
    )
    machine.stopping.set()
    thread.join(10)
    assert machine.programs is None


def test_every_reason_of_placement_is_a_state() -> None:
    for code in ("too-few-gpus", "gpus-taken", "model-too-large"):
        assert EngineState(code) in EngineState


def test_weights_are_counted_once(tmp_path: Path) -> None:
    served = model(tmp_path, "one", weights=1000)
    (served.path / "model-2.safetensors").write_bytes(bytes(500))
    (served.path / "consolidated.safetensors").write_bytes(bytes(1500))
    (served.path / "pytorch_model.bin").write_bytes(bytes(9000))
    assert program.weights(served.path) == 1500
    (served.path / "model.safetensors").unlink()
    (served.path / "model-2.safetensors").unlink()
    assert program.weights(served.path) == 1500


# the role


@pytest.mark.parametrize("role", [Role.WORKER_CPU, Role.WORKER_GPU])
def test_role(tmp_path: Path, role: Role) -> None:
    (tmp_path / "role").write_text(f"{role}\n")
    assert read_role(tmp_path / "role") == role


@pytest.mark.parametrize("content", [b"", b"coordinator\n", b"worker", b"\xff", None])
def test_role_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "role").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_role(tmp_path / "role")
    assert caught.value.code == "bad-role"


# states


def test_states_are_what_was_written(tmp_path: Path) -> None:
    file = tmp_path / "states.json"
    states = EngineStates(["a", "b"], EngineState.STARTING, file)
    states.set("b", EngineState.READY)
    assert read_states(["a", "b"], file) == {"a": EngineState.STARTING, "b": EngineState.READY}
    assert file.stat().st_mode & 0o777 == 0o644
    states.set_all(EngineState.ENDED)
    assert set(read_states(["a", "b"], file).values()) == {EngineState.ENDED}


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{}\n", b"[]\n", b'{\n  "a": "the patient has"\n}\n', b'{\n  "a": 1\n}\n'],
)
def test_states_that_are_none(tmp_path: Path, content: bytes | None) -> None:
    """The writer of the file cannot say anything with it but the known words."""
    file = tmp_path / "states.json"
    if content is not None:
        file.write_bytes(content)
    assert read_states(["a"], file) == {"a": EngineState.NOT_THERE}


def test_a_hostile_file_of_states_neither_waits_nor_fills_the_memory(tmp_path: Path) -> None:
    good = tmp_path / "good"
    EngineStates(["a"], EngineState.READY, good)
    link, pipe, large = (tmp_path / name for name in ("link", "pipe", "large"))
    link.symlink_to(good)
    os.mkfifo(pipe)
    large.write_bytes(good.read_bytes() + b" " * MAX_STATES)
    for file in (link, pipe, large, tmp_path):
        assert read_states(["a"], file) == {"a": EngineState.NOT_THERE}


def test_only_an_engine_that_is_ready_may_be_asked(tmp_path: Path) -> None:
    file = tmp_path / "states.json"
    states = EngineStates(["a", "b"], EngineState.STARTING, file)
    engines = Engines(["a", "b"], file)
    states.set("b", EngineState.READY)
    assert engines.engine("b").url == "http://engine-2"
    for state in EngineState:
        if state != EngineState.READY:
            states.set("b", state)
            with pytest.raises(UnavailableError) as caught:
                engines.engine("b")
            assert caught.value.code == "engine-not-ready"
            assert caught.value.seen == state


def test_an_engine_that_starts_again_gets_nothing_of_a_request(tmp_path: Path) -> None:
    """It was ready when it was chosen, and its successor is what the connection reaches."""
    received: list[bytes] = []
    states = EngineStates(["a"], EngineState.READY, tmp_path / "states.json")

    def answer(server: socket.socket) -> None:
        for _ in range(2):
            connection, _ = server.accept()
            with connection:
                received.append(connection.recv(1000))

    place = Place(1, tmp_path, os.getuid())
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place.socket))
        server.listen()
        engine_of_a = Engines(["a"], tmp_path / "states.json", lambda _: place).engine("a")
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        states.set("a", EngineState.STARTING)
        with pytest.raises(UnavailableError) as caught:
            engine_of_a.call("POST", "/", body=b"the patient has")
        assert caught.value.code == "engine-not-ready"
        states.set("a", EngineState.READY)
        with pytest.raises(UnavailableError, match="closed the connection"):
            engine_of_a.call("POST", "/", body=b"again")
    assert b"the patient has" not in b"".join(received)
    assert received[0] == b"", "it was connected, and was sent nothing"


# the program


def test_bad_models_file(machine: Machine) -> None:
    machine.models_file.write_bytes(b"{}\n")
    with pytest.raises(FormatError):
        program.run(Role.WORKER_CPU, machine.stopping)


def test_main_prints_the_error_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(program, "read_role", lambda: Role.WORKER_CPU)
    monkeypatch.setattr(program, "MODELS_FILE", tmp_path / "none")
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert program.main() == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("confide-engine: ")


def test_sigterm_ends_it(tmp_path: Path) -> None:
    """In a process of its own, as the service manager does it."""
    served = replace(model(tmp_path, "tiny"), path=tmp_path / "tiny")
    (tmp_path / "models.json").write_bytes(encode_models([served]))
    code = (
        "import sys; from pathlib import Path\n"
        "from confide.guest.worker.engine import program, states, supervisor\n"
        "from confide.protocol.roles import Role\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "program.read_role, program.MODELS_FILE = lambda: Role.WORKER_CPU, folder / 'models.json'\n"
        "program.LAUNCHES = folder / 'launch'\n"
        "states.EngineStates.__init__.__defaults__ = (folder / 'states.json',)\n"
        "sys.exit(program.main())"
    )
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as process:
        deadline = time.monotonic() + 20
        while not (tmp_path / "start/1").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_start_imports_nothing_of_the_mesh() -> None:
    """Each import costs seconds on an emulated machine, before the engine's own begin."""
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, confide.guest.worker.engine.program; print(*sys.modules)",
        ],
        env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = ended.stdout.split()
    assert "confide.guest.worker.engine.models_file" in modules
    assert not {"requests", "cryptography", "flask", "pynvml"} & set(modules)
