"""`confide run --restart`: a machine that ends is started anew, and nothing of it is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from confide.commands.cli import main
from confide.errors import ConfigError, UnavailableError
from confide.host.runner import restarts
from confide.host.runner.restarts import keep_console, run_anew
from confide.host.runner.vm import Machine
from tests.support.fake_tools import MakeTools


class Interrupted(threading.Event):
    """Notes how long each pause would take, and takes none; set in the pause after `last`."""

    def __init__(self, last: int = 1000) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self._last = last

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.pauses.append(timeout)
        return len(self.pauses) >= self._last


class SimulatedMachine:
    """A machine that can be started, and says which boot it is on its console."""

    role = "worker-cpu"

    def __init__(self, folder: Path, error: Exception | None = None) -> None:
        self.console = folder / "console.log"
        self.boots, self.stops, self._error = 0, 0, error

    def __enter__(self) -> None:
        self.boots += 1
        if self._error:
            raise self._error
        self.console.write_text(f"boot {self.boots}")

    def __exit__(self, *_: object) -> None:
        self.stops += 1

    def cause(self) -> str:
        return f"Kernel panic {self.boots}"


def ended() -> None:
    """A boot that ends by itself."""
    raise UnavailableError("machine-not-ready", "the worker-cpu machine ended")


def run(machine: SimulatedMachine, interrupted: Interrupted, *, error: bool = True) -> list[str]:
    """Run it until it is interrupted. Returns what was said."""
    said: list[str] = []
    serve = ended if error else lambda: None
    run_anew(cast(Machine, machine), serve, interrupted, said.append)
    return said


def test_each_end_is_said_and_each_console_kept(tmp_path: Path) -> None:
    machine = SimulatedMachine(tmp_path)
    said = run(machine, Interrupted(3))
    assert (machine.boots, machine.stops) == (3, 3)
    assert said == [
        f"the worker-cpu machine ended: Kernel panic {number}; its console is kept in "
        f"{tmp_path}/console.{number}.log; it starts anew in {pause} s"
        for number, pause in ((1, 1), (2, 2), (3, 4))
    ]
    for number in (1, 2, 3):
        assert (tmp_path / f"console.{number}.log").read_text() == f"boot {number}"


def test_pauses_grow_up_to_a_minute(tmp_path: Path) -> None:
    interrupted = Interrupted(9)
    run(SimulatedMachine(tmp_path), interrupted)
    assert interrupted.pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_machine_that_ran_for_long_is_started_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 5.0, 10.0, 15.0, 20.0, 20.0 + restarts.STEADY_SECONDS, 700.0, 701.0])
    monkeypatch.setattr(restarts, "time", SimpleNamespace(monotonic=lambda: next(times)))
    interrupted = Interrupted(4)
    run(SimulatedMachine(tmp_path), interrupted)
    assert interrupted.pauses == [1, 2, 1, 2]


def test_a_machine_that_is_interrupted_is_not_started_anew(tmp_path: Path) -> None:
    machine = SimulatedMachine(tmp_path)
    assert run(machine, Interrupted(), error=False) == []
    assert (machine.boots, machine.stops) == (1, 1)
    assert machine.console.exists()


def test_an_interruption_in_the_pause_ends_everything(tmp_path: Path) -> None:
    machine = SimulatedMachine(tmp_path)
    run(machine, Interrupted(1))
    assert machine.boots == 1


def test_a_machine_that_cannot_be_started_now(tmp_path: Path) -> None:
    error = UnavailableError("swtpm-failed", "the software TPM failed")
    machine = SimulatedMachine(tmp_path, error)
    assert len(run(machine, Interrupted(2))) == 2
    assert machine.boots == 2


def test_a_machine_that_can_never_be_started(tmp_path: Path) -> None:
    machine = SimulatedMachine(tmp_path, ConfigError("no-disk", "a disk is missing"))
    with pytest.raises(ConfigError):
        run(machine, Interrupted())
    assert machine.boots == 1


def test_consoles_of_earlier_runs_stay(tmp_path: Path) -> None:
    (tmp_path / "console.1.log").write_text("earlier")
    (tmp_path / "console.log").write_text("now")
    assert keep_console(tmp_path / "console.log") == tmp_path / "console.2.log"
    assert (tmp_path / "console.1.log").read_text() == "earlier"
    assert (tmp_path / "console.2.log").read_text() == "now"


def test_the_command(
    image: Path,
    make_tools: MakeTools,
    no_tpm: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two boots that end; the third is stopped with SIGTERM. All three have the same port."""
    monkeypatch.setattr(restarts, "FIRST_PAUSE", 0.1)
    folder = image.parent / "run"
    starts = image / "starts"
    qemu = f"""
echo "$@" >> {starts}
number=$(wc -l < {starts})
echo "confide: boot failed: reason $number" > {folder}/console.log
[ $number -gt 2 ] || exit 0
exec sleep 100"""
    tools = make_tools(qemu=qemu, swtpm="exec sleep 100")

    def stop_the_third() -> None:
        deadline = time.monotonic() + 60
        while not (folder / "console.2.log").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        while len(starts.read_text().splitlines()) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop_the_third)
    stopper.start()
    argv = ["run", str(image), "--inventory", "--restart", "--tools", str(tools.folder)]
    assert main([*argv, "--run-dir", str(folder)]) == 0
    stopper.join()
    said = capsys.readouterr().err
    for number in (1, 2):
        kept = folder / f"console.{number}.log"
        assert f"boot failed: reason {number}; its console is kept in {kept};" in said
        assert kept.read_text() == f"confide: boot failed: reason {number}\n"
    forwards = [line.partition("hostfwd=")[2].split()[0] for line in starts.open()]
    assert len(forwards) == 3 and len(set(forwards)) == 1
