"""What must hold of every request, log and program, whatever was broken. Returns what does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.clients import SECRET, Request, Result
from tests.faults.history import History, Thing
from tests.faults.schedule import Shape, engine_of
from tests.support.error_codes import declared

MAX_RUNS = 3
"""Protocol 2, section 9: a prompt runs at up to three workers."""

NEVER = frozenset({"internal", "replay", "bad-seal", "bad-key-seal"})
"""Codes that say of an honest service that it has a defect."""

API_KEY = "sk-fault-0123456789abcdef"
"""Of the proxies at the gateways."""

IN_NO_LOG = (SECRET, "said-", API_KEY)
DEFECTS = ("Traceback (most recent call last)", "unexpected ")


@dataclass
class Judgement:
    """What was broken of the rules, and how many requests came to what."""

    violations: list[str] = field(default_factory=list)
    owed: int = 0
    results: Counter[str] = field(default_factory=Counter)


class Judge:
    """Judges requests by the history of faults."""

    def __init__(self, shape: Shape, history: History, *, start: float) -> None:
        """`start` is when the run began, in monotonic seconds: violations show times since."""
        self._start = start
        self._shape = shape
        self._history = history
        self._engines = {engine_of(worker): worker for worker in shape.worker_names}
        self._codes = {code for room in declared().values() for code in room}

    def judge(
        self,
        requests: Sequence[Request],
        prompts: Mapping[str, Sequence[str]],
        logs: Mapping[str, str],
    ) -> Judgement:
        """`prompts` are what each engine got, `logs` what each program has printed."""
        found = Judgement()
        runs: dict[str, list[str]] = {}
        for engine, seen in prompts.items():
            for prompt in seen:
                runs.setdefault(prompt, []).append(engine)
        verified = self._verified(requests)
        for request in requests:
            found.results[f"{request.result.name} {request.code}".strip()] += 1
            ran = runs.get(request.prompt, [])
            owed = self.is_owed(request, verified)
            found.owed += owed
            found.violations += self._broken_rules(request, ran, owed=owed)
        for name, log in logs.items():
            found.violations += self._in_log(name, log)
        return found

    def is_owed(self, request: Request, verified: Mapping[str, Sequence[float]]) -> bool:
        """Whether nothing that this request needs was broken: one worker and one secret service.

        `verified`: when each proxy first had an answer from each new mesh.
        """
        proxy, history = request.proxy, self._history
        gateway = self._shape.gateway_of(proxy)
        began, ended = request.began, request.ended

        def calm(thing: Thing) -> bool:
            return history.is_calm(thing, began, ended)

        for number, mesh in enumerate(history.meshes):
            if mesh <= ended and began <= verified[proxy][number]:
                return False
        needed: list[Thing] = [proxy, gateway, (proxy, gateway), f"disk of {proxy}"]
        if not all(map(calm, needed)):
            return False
        services = [s for s in self._shape.service_names if calm(s) and calm((gateway, s))]
        workers = [w for w in self._shape.worker_names if calm(w) and calm((gateway, w))]
        return any(calm((worker, service)) for worker in workers for service in services)

    def _verified(self, requests: Sequence[Request]) -> dict[str, list[float]]:
        return {
            proxy: [
                min(
                    (
                        request.ended
                        for request in requests
                        if request.proxy == proxy
                        and request.began > mesh
                        and request.result is Result.ANSWERED
                        and request.engine in self._engines
                        and not self._was_broken(request.engine, request.began, request.ended)
                    ),
                    default=float("inf"),
                )
                for mesh in self._history.meshes
            ]
            for proxy in self._shape.proxy_names
        }

    def _was_broken(self, engine: str, began: float, ended: float, gateway: str = "") -> bool:
        worker, history = self._engines[engine], self._history
        return history.was_broken(worker, began, ended) or (
            bool(gateway) and history.was_broken((gateway, worker), began, ended)
        )

    def _broken_rules(self, request: Request, ran: Sequence[str], *, owed: bool) -> list[str]:
        result, said = request.result, []
        proxy = request.proxy
        gateway = self._shape.gateway_of(proxy)
        if result is Result.WRONG or (request.engine and request.engine not in self._engines):
            said.append("wrong answer")
        elif result is Result.ANSWERED and request.engine not in ran:
            said.append("an answer that no engine gave")
        if result is Result.SILENT:
            said.append("no answer and no error")
        if result is Result.CUT and not self._history.was_broken(
            proxy, request.began, request.ended
        ):
            said.append("unnamed error")
        if result in (Result.REFUSED, Result.BROKEN):
            if request.code not in self._codes:
                said.append("undeclared error")
            if request.code in NEVER:
                said.append("an error that an honest service never has")
            if request.status not in (200, 429) and request.status < 500:
                said.append("the app is blamed for a well-formed request")
        if SECRET in request.said:
            said.append("an error quotes the prompt")
        if len(set(ran)) > MAX_RUNS or len(set(ran)) < len(ran):
            said.append(f"ran at {ran}")
        if owed and result is not Result.ANSWERED:
            # What had begun at a machine that was then lost is not sent again.
            lost = any(
                self._was_broken(engine, request.began, request.ended, gateway) for engine in ran
            )
            if not lost:
                said.append(f"not answered, although nothing that it needs was broken (ran: {ran})")
        return [f"{what}: {request.shown(self._start)}" for what in said]

    def _in_log(self, name: str, log: str) -> list[str]:
        lines = log.splitlines()
        said = [
            f"the log of {name} has {secret!r}: {line[:200]}"
            for line in lines
            for secret in IN_NO_LOG
            if secret in line
        ]
        said += [
            f"a defect shows in the log of {name}: {' | '.join(lines[at : at + 30])}"
            for at, line in enumerate(lines)
            if line.startswith(DEFECTS) or "confide: unexpected" in line
        ]
        return said
