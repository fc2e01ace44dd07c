"""A whole SIMULATED service whose programs, links, clocks and disks are broken step by step."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable
from pathlib import Path

from confide.net.coordinator_client import CoordinatorClient
from tests.faults.apart import Disk, Network
from tests.faults.history import History
from tests.faults.judge import API_KEY
from tests.faults.programs import Program
from tests.faults.schedule import NUDGE, TURNS, Model, Shape, State, Step, engine_of
from tests.support.simulated_machine import MODEL, current_manifest

READY_SECONDS = 300.0
"""How long a program may take to be ready again, or to end by itself."""

SAYS_AT_ITS_END = {
    "turn": "this machine ends: its clock ",
    "await-end": "this machine ends: the mesh is gone",
}


class BrokenRuleError(Exception):
    """The service did not do what a step demands."""


class FaultyService:
    """All programs of a service; `step` breaks or repairs one thing."""

    def __init__(
        self,
        folder: Path,
        shape: Shape,
        *,
        nft: Path,
        faketime: Path,
    ) -> None:
        self._folder = folder
        self.shape = shape
        self.model = Model(shape)
        self.history = History()
        self.network = Network(nft, shape.parts)
        self._manifest = current_manifest()
        self._manifest_file = folder / "manifest.json"
        self._manifest_file.write_bytes(self._manifest)
        self._disks: dict[str, Disk] = {}
        self._faketime = {
            "LD_PRELOAD": str(faketime),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self._write_keys()
        self.programs = {name: self._program(name) for name in shape.parts}

    def start(self) -> None:
        """Start everything, and wait until it is ready."""
        proxies = self.shape.proxy_names
        for name in self.shape.parts:
            if name not in proxies:
                self.programs[name].start()
        self._set_manifest()
        self._require_ready(*self.shape.nodes, *self.shape.gateway_names)
        for name in proxies:
            self._start(name)

    def url(self, name: str) -> str:
        """Where a program is."""
        return self.programs[name].url

    def step(self, step: Step) -> None:
        """Make one step. Raises BrokenRuleError if a program does not do what follows from it."""
        program = self.programs[step.target]
        if step.act in ("cut", "fill"):
            self.history.breaks(step.link if step.act == "cut" else _disk(step.target))
        elif step.act in ("kill", "pause", "turn"):
            self.history.breaks(step.target)
        joins = self.model.apply(step)
        match step.act:
            case "kill":
                program.kill()
            case "pause":
                program.signal(signal.SIGSTOP)
            case "resume":
                program.signal(signal.SIGCONT)
            case "start":
                self._start(step.target)
            case "turn":
                self._require_end(step, lambda: program.turn(TURNS[step.other]))
            case "await-end":
                self._require_end(step, lambda: None)
            case "nudge":
                program.turn(NUDGE)
            case "cut":
                self.network.cut(*step.link)
            case "heal":
                self.network.heal(*step.link)
                self.history.works(step.link)
            case "fill":
                self._disks[step.target].fill()
            case "free":
                self._disks[step.target].free()
                self.history.works(_disk(step.target))
        self._require_ready(*joins)
        # A node that has not joined is not ready, so it stays broken for what it serves.
        joined = self.model.joined.get(step.target, self.model.mesh) == self.model.mesh
        works = [step.target] if step.act in ("start", "resume") and joined else []
        for name in (*works, *joins):
            self.history.works(name)

    def require_alive(self) -> None:
        """Raises BrokenRuleError if a program has ended although nothing made it end."""
        for name, program in self.programs.items():
            if self.model.states[name] is State.DOWN or not program.has_ended:
                continue
            # A node of a mesh that is gone may have noticed before it was waited for.
            by_rule = SAYS_AT_ITS_END["await-end"] in program.said()
            if not (by_rule and self.model.is_old(name)):
                raise BrokenRuleError(f"{name} has ended:\n{_tail(program.said())}")

    def logs(self) -> dict[str, str]:
        """What each program has printed."""
        return {name: program.said(ever=True) for name, program in self.programs.items()}

    def prompts(self) -> dict[str, list[str]]:
        """The prompts that the engine of each worker got, by the engine's name."""
        logs = {engine_of(name): self.programs[name].engine_log for name in self.shape.worker_names}
        return {engine: log.read_text().splitlines() for engine, log in logs.items()}

    def stop(self) -> None:
        """End everything."""
        for program in reversed(self.programs.values()):
            program.kill()

    def _start(self, name: str) -> None:
        program = self.programs[name]
        program.start()
        if name == "coordinator":
            self._set_manifest()
            self.history.new_mesh()
            for node in self.shape.nodes:
                if self.model.is_old(node):
                    self.history.breaks(node)
        elif name in self.shape.gateway_names:
            self._require_ready(name)
        elif name in self.shape.proxy_names:
            # Its gateway may not have noticed yet that the service is there again.
            for _ in range(10):
                if program.wait("ready", READY_SECONDS):
                    return
                if not program.has_ended:
                    break
                program.start()
            raise BrokenRuleError(f"{name} does not verify the service:\n{_tail(program.said())}")

    def _set_manifest(self) -> None:
        self._require("coordinator", "no-manifest")
        CoordinatorClient(self.url("coordinator")).set_manifest(self._manifest)

    def _require_ready(self, *names: str) -> None:
        for name in names:
            self._require(name, "ready")

    def _require(self, name: str, state: str) -> None:
        program = self.programs[name]
        if not program.wait(state, READY_SECONDS):
            seen = "it has ended" if program.has_ended else f"it is {program.state()!r}"
            raise BrokenRuleError(f"{name} is not {state}: {seen}\n{_tail(program.said())}")

    def _require_end(self, step: Step, cause: Callable[[], None]) -> None:
        program = self.programs[step.target]
        cause()
        ended = program.ends(READY_SECONDS)
        said = program.said()
        if not ended or SAYS_AT_ITS_END[step.act] not in said:
            how = "it ended without its reason" if ended else "it did not end"
            raise BrokenRuleError(f"{step}: {how}:\n{_tail(said)}")

    def _program(self, name: str) -> Program:
        address = self.network.address(name)
        url = f"http://{address}:8000"
        if name in self.shape.gateway_names or name in self.shape.proxy_names:
            disk = self._disks[name] = Disk(self._folder / f"disk-{name}")
            return Program(
                name,
                url,
                self._client_side(name, f"{address}:8000"),
                self.network.group(name),
                disk.folder / "log",
                environment={"HOME": str(disk.folder)},
            )
        return Program(
            name,
            url,
            self._guest_side(name, address),
            self.network.group(name),
            self._folder / f"{name}.log",
            engine=self._engine(name, address) if name in self.shape.worker_names else (),
            clock=self._folder / f"{name}.clock",
            environment=self._faketime,
        )

    def _client_side(self, name: str, listen: str) -> list[str]:
        if name in self.shape.gateway_names:
            options = ["--coordinator", self._url("coordinator")]
            for node in self.shape.nodes:
                options += [f"--{node.rpartition('-')[0]}", self._url(node)]
            options += ["--api-keys", str(self._folder / "keys.json")]
            return ["confide", "gateway", *options, "--listen", listen]
        options = ["--gateway", self._url(self.shape.gateway_of(name)), "--development"]
        options += ["--manifest", str(self._manifest_file)]
        options += ["--api-key-file", str(self._folder / "api-key")]
        options += ["--receipts", str(self._disks[name].folder / "receipts")]
        return ["confide", "proxy", *options, "--listen", listen]

    def _engine(self, name: str, address: str) -> list[str]:
        options = ["--host", address, "--port", "9000", "--name", engine_of(name), "--tells"]
        return ["tests.support.fake_engine", *options]

    def _guest_side(self, name: str, address: str) -> list[str]:
        kind = name.rpartition("-")[0] or name
        options = [kind, "--host", address, "--port", "8000", "--hasty"]
        options += ["--manifest", str(self._manifest_file)]
        if kind != "coordinator":
            options += ["--coordinator", self._url("coordinator")]
        if kind == "secret-service":
            options += ["--tls-port", "8443"]
        if kind == "worker":
            options += ["--engine", f"http://{address}:9000", "--model", MODEL]
            for service in self.shape.service_names:
                options += ["--secret-service", f"https://{self.network.address(service)}:8443"]
        return ["tests.support.native_node", *options]

    def _url(self, name: str) -> str:
        return f"http://{self.network.address(name)}:8000"

    def _write_keys(self) -> None:
        digest = hashlib.sha256(API_KEY.encode()).hexdigest()
        user = {"sha256": digest, "requests_per_minute": 10**6}
        (self._folder / "keys.json").write_text(json.dumps({"tests": user}))
        (self._folder / "api-key").write_text(API_KEY)


def _disk(name: str) -> str:
    return f"disk of {name}"


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-20:])
