"""Keeps one engine for each model running, each in a unit of its own (units.py).

Rules:

* Until an engine has answered its first health check of this boot, the console shows what it
  prints, so that one sees why it does not start. After that its output is discarded: a message or a
  traceback may quote a prompt. Then its state becomes READY. The encryption proxy sends requests
  only to engines in that state.
* An engine that ends is started again, after a delay that grows while it does not serve for long.
  The others go on. The service manager allows a bounded number of starts.
* All processes of an engine's unit have ended before the next start. So nothing holds the memory of
  its GPUs, and nothing of one engine is there for the next.
* An engine that answers no health check for WEDGED_SECONDS is ended.
* An engine that has run for about a day gets no more requests, finishes those that it has, and is
  started anew: an attacker who had taken it over has to do so again.
* GPUs have to be ready before each start.
* Models that share a GPU load one after another, because each would count the other's growing share
  of the memory as its own.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from confide.guest.worker.engine.place import Place
from confide.guest.worker.engine.states import EngineState, EngineStates
from confide.guest.worker.engine.units import EngineUnit
from confide.net.unix_socket import UnixConnection

POLL_SECONDS = 0.5
HEALTH_SECONDS = 10.0
RESTART_SECONDS = 2.0
MAX_RESTART_SECONDS = 300.0
STEADY_SECONDS = 600.0
"""After serving for this time, an engine that ends starts again soon. Requests that end it at once
thus cost some minutes each, and never use up the starts that the service manager allows."""

START_SECONDS = 120.0
"""After this time without a unit, the service manager has refused to start it (too many starts)."""

LOAD_SECONDS = 3600.0
"""Most time until an engine is ready."""

HEALTHY = re.compile(rb"HTTP/1\.[01] 200")
HEAD_SIZE = 12
"""Bytes of a status line up to the status."""

CHECK_SECONDS = 10.0
"""Between two health checks of an engine that was ready."""

WEDGED_SECONDS = 300.0

RECYCLE_SECONDS = 20 * 3600.0, 24 * 3600.0
"""How long an engine serves. By chance between the two, so that replicas do not pause together. The
unit's RuntimeMaxSec is later, for a supervisor that does not do it."""

DRAIN_SECONDS = 600.0
"""For the requests that an engine still has, before it is started anew."""


@dataclass(frozen=True)
class EngineProgram:
    """How to start the engine of a model, where it lives, and the indexes of its GPUs."""

    model: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    place: Place
    gpus: tuple[int, ...] = ()


class Supervisor:
    """All engines of this machine. `say` prints a line on the console.

    `wait_for_gpus` returns when engines may use the GPUs, or `stopping` is set. It prints why it
    waits. It is None on a machine without GPUs. `folder` is the supervisor's own.
    """

    def __init__(
        self,
        programs: Sequence[EngineProgram],
        states: EngineStates,
        stopping: threading.Event,
        say: Callable[[str], None],
        wait_for_gpus: Callable[[], object] | None,
        folder: Path,
    ) -> None:
        loading = {gpu: threading.Lock() for program in programs for gpu in program.gpus}
        self._stopping = stopping
        self._engines = [
            _Engine(
                program,
                EngineUnit(program.place, partial(_pass_on, say, program.model), folder),
                [loading[gpu] for gpu in sorted(program.gpus)],
                partial(states.set, program.model),
                stopping,
                say,
                wait_for_gpus,
            )
            for program in programs
        ]

    def run(self) -> None:
        """Keep every engine running until `stopping` is set. Raises OSError.

        The engines' units end with the supervisor's.
        """
        with ThreadPoolExecutor(len(self._engines)) as pool:
            futures = [pool.submit(engine.keep_running) for engine in self._engines]
            # A thread ends because of `stopping`, or by an exception, which ends all.
            while not any(future.done() for future in futures):
                if self._stopping.wait(POLL_SECONDS):
                    break
            self._stopping.set()
            for future in futures:
                future.result()


def _pass_on(say: Callable[[str], None], model: str, line: str) -> None:
    say(f"{model}: {line}")


class _Engine:
    """One model's engine. `loading` are the locks of its GPUs, in one order for all engines."""

    def __init__(
        self,
        program: EngineProgram,
        unit: EngineUnit,
        loading: Sequence[threading.Lock],
        set_state: Callable[[EngineState], None],
        stopping: threading.Event,
        say: Callable[[str], None],
        wait_for_gpus: Callable[[], object] | None,
    ) -> None:
        self._program = program
        self._unit = unit
        self._loading = loading
        self._set_state = set_state
        self._stopping = stopping
        self._say = say
        self._wait_for_gpus = wait_for_gpus
        self._name = f"the engine of the model {program.model}"

    def keep_running(self) -> None:
        """Start the engine, again and again, until `stopping` is set."""
        delay = RESTART_SECONDS
        self._end()  # one that an earlier supervisor started
        while not self._stopping.is_set():
            with ExitStack() as gpus:
                for lock in self._loading:
                    gpus.enter_context(lock)
                if self._wait_for_gpus is not None:
                    self._set_state(EngineState.GPUS_NOT_READY)
                    self._wait_for_gpus()
                if self._stopping.is_set():
                    return
                was_ready = self._start()
                if not was_ready:
                    self._end()  # before another one loads on its GPUs
            ready_at = time.monotonic()
            recycled = was_ready and self._serve()
            if not recycled:
                self._set_state(EngineState.ENDED)
            self._end()
            if self._stopping.is_set():
                return
            if recycled:
                continue
            steady = was_ready and time.monotonic() - ready_at >= STEADY_SECONDS
            delay = RESTART_SECONDS if steady else min(delay * 2, MAX_RESTART_SECONDS)
            self._say(f"{self._name} has ended; it starts again in {delay:.0f} s")
            self._stopping.wait(delay)

    def _start(self) -> bool:
        """Start the unit and wait until the engine answers. False if it ends, or takes too long."""
        self._set_state(EngineState.STARTING)
        self._unit.start(self._program.arguments, self._program.environment)
        if not self._wait(lambda: self._unit.running, START_SECONDS):
            self._say(f"{self._name} cannot be started: it was started too often")
            return False
        deadline = time.monotonic() + LOAD_SECONDS
        while self._unit.running and time.monotonic() < deadline:
            if self._is_healthy():
                self._unit.silence()
                self._say(f"{self._name} is ready")
                self._set_state(EngineState.READY)
                return True
            if self._stopping.wait(POLL_SECONDS):
                break
        return False

    def _serve(self) -> bool:
        """Watch an engine that is ready. True once it has run for long enough, and is drained."""
        now = time.monotonic()
        answered, checked, until = now, now, now + random.SystemRandom().uniform(*RECYCLE_SECONDS)
        while self._unit.running and not self._stopping.wait(POLL_SECONDS):
            now = time.monotonic()
            if now >= until:
                self._say(f"{self._name} has run for long enough; it is started anew")
                self._set_state(EngineState.DRAINING)
                self._wait(lambda: not self._unit.running, DRAIN_SECONDS)
                return True
            if now - checked < CHECK_SECONDS:
                continue
            checked = now
            if self._is_healthy():
                answered = now
            elif now - answered > WEDGED_SECONDS:
                self._say(f"{self._name} does not answer")
                return False
        return False

    def _end(self) -> None:
        """End what is left of the unit. Returns when nothing is, or `stopping` is set."""
        if self._unit.running:
            self._unit.end()
            while self._unit.running:
                if self._stopping.wait(POLL_SECONDS):
                    return
        self._unit.ended()

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether it came true within this time, and before `stopping` was set."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or self._stopping.wait(POLL_SECONDS):
                return False
        return True

    def _is_healthy(self) -> bool:
        """Whether it answers within HEALTH_SECONDS, however slowly it sends, and whatever."""
        place = self._program.place
        deadline = time.monotonic() + HEALTH_SECONDS
        head = b""
        with closing(UnixConnection(place.socket, place.user, HEALTH_SECONDS)) as connection:
            try:
                connection.request("GET", "/health")
                while len(head) < HEAD_SIZE:
                    connection.sock.settimeout(max(0.001, deadline - time.monotonic()))
                    piece = connection.sock.recv(HEAD_SIZE - len(head))
                    if not piece:
                        return False
                    head += piece
            except OSError:
                return False
        return HEALTHY.fullmatch(head) is not None
