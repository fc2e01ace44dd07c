"""Keeps one engine process for each model running.

Rules:

* Until an engine has answered its first health check, the console shows what it prints, a bounded
  number of lines, so that one sees why it does not start. After that its output is discarded: a
  message or a traceback may quote a prompt. Then its state becomes READY. The encryption proxy
  sends requests only to engines in that state.
* An engine that ends is started again, after a delay that grows while it does not become ready. The
  others go on.
* An engine is a process group and ends as one: a process left over would hold its GPUs' memory.
* GPUs have to be ready before each start.
* Models that share a GPU load one after another, because each would count the other's growing share
  of the memory as its own.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import IO

from confide.guest.worker.engine.models_file import ENGINE_HOST
from confide.guest.worker.engine.states import EngineState, EngineStates

POLL_SECONDS = 0.5
HEALTH_SECONDS = 10.0
RESTART_SECONDS = 2.0
MAX_RESTART_SECONDS = 300.0
STOP_SECONDS = 10.0

MAX_LINE = 500
"""Most bytes of a printed line; a longer one is cut in two."""

MAX_LINES = 200
"""Most lines of one start that are shown; vLLM's longest traceback has about 100."""


@dataclass(frozen=True)
class EngineProgram:
    """How to start the engine of a model, where it listens, and the indexes of its GPUs."""

    model: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    port: int
    gpus: tuple[int, ...] = ()


class Supervisor:
    """All engines of this machine. `say` prints a line on the console.

    `wait_for_gpus` returns when engines may use the GPUs, or `stopping` is set. It prints why it
    waits. It is None on a machine without GPUs.
    """

    def __init__(
        self,
        programs: Sequence[EngineProgram],
        states: EngineStates,
        stopping: threading.Event,
        say: Callable[[str], None],
        wait_for_gpus: Callable[[], object] | None = None,
    ) -> None:
        loading = {gpu: threading.Lock() for program in programs for gpu in program.gpus}
        self._stopping = stopping
        self._engines = [
            _Engine(
                program,
                [loading[gpu] for gpu in sorted(program.gpus)],
                partial(states.set, program.model),
                stopping,
                say,
                wait_for_gpus,
            )
            for program in programs
        ]

    def run(self) -> None:
        """Keep every engine running until `stopping` is set, then end all.

        Raises OSError if an engine's program cannot be started.
        """
        with ThreadPoolExecutor(len(self._engines)) as pool:
            futures = [pool.submit(engine.keep_running) for engine in self._engines]
            # A thread ends because of `stopping`, or by an exception, which ends all.
            while not any(future.done() for future in futures):
                if self._stopping.wait(POLL_SECONDS):
                    break
            self._stopping.set()
            for engine in self._engines:
                engine.send_signal(signal.SIGTERM)
            _, running = wait(futures, STOP_SECONDS)
            if running:
                for engine in self._engines:
                    engine.send_signal(signal.SIGKILL)
            for future in futures:
                future.result()


class _Engine:
    """One model's engine. `loading` are the locks of its GPUs, in one order for all engines."""

    def __init__(
        self,
        program: EngineProgram,
        loading: Sequence[threading.Lock],
        set_state: Callable[[EngineState], None],
        stopping: threading.Event,
        say: Callable[[str], None],
        wait_for_gpus: Callable[[], object] | None,
    ) -> None:
        self._program = program
        self._loading = loading
        self._set_state = set_state
        self._stopping = stopping
        self._say = say
        self._wait_for_gpus = wait_for_gpus
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        """Held to start, signal or reap, so no signal goes to a process id in its second use."""

    def keep_running(self) -> None:
        """Start the engine, again and again, until `stopping` is set and it has ended."""
        delay = RESTART_SECONDS
        while True:
            with ExitStack() as gpus:
                for lock in self._loading:
                    gpus.enter_context(lock)
                if self._wait_for_gpus is not None:
                    self._set_state(EngineState.GPUS_NOT_READY)
                    self._wait_for_gpus()
                process, quiet = self._start()
                if process is None:
                    return
                was_ready = self._wait_ready(process, quiet)
            status = self._wait_end(process)
            if self._stopping.is_set():
                return
            self._set_state(EngineState.ENDED)
            delay = RESTART_SECONDS if was_ready else min(delay * 2, MAX_RESTART_SECONDS)
            self._say(
                f"the engine of the model {self._program.model} ended with status {status}; "
                f"it starts again in {delay:.0f} s"
            )
            self._stopping.wait(delay)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the engine and all that it has started."""
        with self._lock:
            if self._process is not None:
                os.killpg(self._process.pid, number)

    def _start(self) -> tuple[subprocess.Popen[bytes] | None, threading.Event]:
        quiet = threading.Event()
        with self._lock:
            if self._stopping.is_set():
                return None, quiet
            self._set_state(EngineState.STARTING)
            self._process = process = subprocess.Popen(
                self._program.arguments,
                env=self._program.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                process_group=0,
            )
        assert process.stderr is not None
        threading.Thread(target=self._forward, args=(process.stderr, quiet), daemon=True).start()
        return process, quiet

    def _forward(self, stderr: IO[bytes], quiet: threading.Event) -> None:
        """Read all that the engine prints and show some of it on the console."""
        said = 0
        with stderr:
            while line := stderr.readline(MAX_LINE):
                # Output that came before `quiet` was set came before the first request.
                if not quiet.is_set() and said < MAX_LINES:
                    said += 1
                    text = line.decode(errors="replace").rstrip()
                    self._say(f"{self._program.model}: {text}")

    def _wait_ready(self, process: subprocess.Popen[bytes], quiet: threading.Event) -> bool:
        """Wait until the engine answers. False if it ended first."""
        while not _has_ended(process, os.WNOHANG):
            if self._is_healthy():
                quiet.set()
                self._say(f"the engine of the model {self._program.model} is ready")
                self._set_state(EngineState.READY)
                return True
            time.sleep(POLL_SECONDS)
        return False

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection(
            ENGINE_HOST, self._program.port, timeout=HEALTH_SECONDS
        )
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _wait_end(self, process: subprocess.Popen[bytes]) -> int:
        """Wait until the engine's first process has ended, end the rest, return its status."""
        _has_ended(process, 0)
        with self._lock:
            # Its process id is still taken, because it is reaped below.
            os.killpg(process.pid, signal.SIGKILL)
            self._process = None
            return process.wait()


def _has_ended(process: subprocess.Popen[bytes], options: int) -> bool:
    """Whether the process has ended, without reaping it. Waits unless WNOHANG is given."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | options) is not None
