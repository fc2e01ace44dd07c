"""A booted service, some of whose machines are paused or killed while clients ask.

A short run with a seed. tests/faults breaks far more, on native programs.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from dataclasses import dataclass, field

import pytest
import requests

from confide.commands.system import Program, System
from confide.host.runner.vm import Machine
from confide.protocol.roles import Role
from tests.support.error_codes import declared

pytestmark = pytest.mark.long

SEED = 14
STEPS = 8
CLIENTS = 3
SECRET = "prompt-of-client"
PATIENCE_SECONDS = 120.0
STEP_SECONDS = 6.0
"""At most between two steps, if no request ends meanwhile."""

BOOT_SECONDS = 300.0


@dataclass
class Clients:
    """Some clients that ask until they are stopped."""

    url: str
    model: str
    answers: list[tuple[int, str]] = field(default_factory=list)
    """HTTP status, then the text or the error's code."""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._ask_always, args=(number,)) for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, more: int, seconds: float) -> bool:
        """Wait until so many more requests have ended. False if it takes longer."""
        with self._changed:
            wanted = len(self.answers) + more
            return self._changed.wait_for(lambda: len(self.answers) >= wanted, seconds)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def ask(self, prompt: str) -> tuple[int, str]:
        """The HTTP status, and the text or the error's code."""
        body = {"model": self.model, "prompt": prompt, "max_tokens": 200}
        url = f"{self.url}/v1/completions"
        answer = requests.post(url, json=body, timeout=PATIENCE_SECONDS)
        value = json.loads(answer.content)
        if answer.status_code != 200:
            return answer.status_code, str(value["error"]["code"])
        return 200, str(value["choices"][0]["text"]).strip()

    def _ask_always(self, client: int) -> None:
        number = 0
        # Refusals come at once.
        while not self._stop.wait(0.5):
            number += 1
            try:
                outcome = self.ask(f"{SECRET}-{client}-{number}")
            except (requests.RequestException, ValueError, KeyError) as error:
                outcome = 0, type(error).__name__
            with self._changed:
                self.answers.append(outcome)
                self._changed.notify_all()


def pauses(seed: int) -> list[tuple[str, bool]]:
    """Which machine is paused (True) or goes on, step by step; at the end, all go on."""
    chance = random.Random(seed)
    paused: set[str] = set()
    steps = []
    for _ in range(STEPS):
        role = chance.choice([Role.COORDINATOR, Role.SECRET_SERVICE, Role.WORKER_CPU])
        paused ^= {role}
        steps.append((role, role in paused))
    return steps + [(role, False) for role in sorted(paused)]


def send(machine: Machine, number: int) -> None:
    """Send a signal to the process of a machine."""
    assert machine._qemu is not None
    os.kill(machine._qemu.pid, number)


def test_machines_that_pause_and_one_that_is_switched_off(
    system: System, gateway: Program, proxy: Program, expected: str
) -> None:
    secret_service = system.machine(Role.SECRET_SERVICE)
    clients = Clients(proxy.url, system.models[0])
    try:
        assert clients.wait_for(CLIENTS, PATIENCE_SECONDS)
        for role, pause in pauses(SEED):
            print(f"seed {SEED}: {'pause' if pause else 'resume'} {role}")
            send(system.machine(role), signal.SIGSTOP if pause else signal.SIGCONT)
            clients.wait_for(2, STEP_SECONDS)
        # Workers have the keys of requests so far, so it is not missed at once.
        print(f"seed {SEED}: switch {Role.SECRET_SERVICE} off")
        secret_service.stop()
        assert clients.wait_for(CLIENTS, PATIENCE_SECONDS)
        secret_service.start()
        secret_service.wait_ready(BOOT_SECONDS)
        assert clients.wait_for(2 * CLIENTS, PATIENCE_SECONDS)
    finally:
        for machine in system.machines.values():
            if machine.running:
                send(machine, signal.SIGCONT)
        clients.stop()
    codes = {code for room in declared().values() for code in room} - {"internal", "replay"}
    assert [text for status, text in clients.answers if status == 200 and text != expected] == []
    named = {code for status, code in clients.answers if status >= 500 or status == 429}
    assert named <= codes
    assert [answer for answer in clients.answers if answer[0] < 200 or 201 <= answer[0] < 429] == []
    assert clients.ask("when all is well again") == (200, expected)
    said = [machine.console.read_text(errors="replace") for machine in system.machines.values()]
    said += [program.log.read_text(errors="replace") for program in (gateway, proxy)]
    assert not any(SECRET in text or expected in text for text in said)
    assert not any("Traceback" in text or "confide: unexpected" in text for text in said)
