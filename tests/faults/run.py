"""One run of faults, in a namespace of its own (apart.py). Prints the seed, and every step.

Exits with 1 if a rule of judge.py is broken.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import astuple
from pathlib import Path

from tests.faults.clients import Clients, Request
from tests.faults.judge import Judge
from tests.faults.schedule import FULL, Shape, schedule
from tests.faults.service import BrokenRuleError, FaultyService

STEP_SECONDS = 2.0
"""At most between two steps: when everything is down, few requests end."""

SHOWN = 20
"""Broken rules that are printed."""

RECOVERY_SECONDS = 60.0
"""After the last repair, until each client has an answer."""


class Run:
    """One run: its steps, and what was found."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._began = time.monotonic()
        self._folder: Path = arguments.folder
        self.violations: list[str] = []
        shape = Shape(*arguments.shape)
        self._steps = schedule(arguments.seed, arguments.steps, shape)
        self._say(f"seed {arguments.seed}: {len(self._steps)} steps, {shape}")
        self._service = FaultyService(
            arguments.folder, shape, nft=arguments.nft, faketime=arguments.faketime
        )
        proxies = {name: self._service.url(name) for name in shape.proxy_names}
        self._clients = Clients(proxies, arguments.clients, arguments.seed)

    def all(self) -> None:
        """Start everything, break it step by step, and judge what clients got meanwhile."""
        try:
            self._service.start()
            self._clients.start()
            self._say("everything is ready")
            self._break()
            self._recover()
            self._clients.stop()
        except BrokenRuleError as error:
            self.violations.append(str(error))
        finally:
            ended = time.monotonic()
            self._service.stop()
        # What the end of the run cut off is not judged.
        self._judge([request for request in self._clients.requests if request.ended <= ended])

    def _break(self) -> None:
        for number, step in enumerate(self._steps):
            # As many rounds of all clients, however many there are.
            self._clients.wait_for(step.after * self._clients.count // 50, STEP_SECONDS)
            self._say(f"step {number}: {step}")
            self._service.step(step)
            self._service.require_alive()

    def _recover(self) -> None:
        repaired = time.monotonic()
        waiting = self._clients.wait_for_everyone(repaired, RECOVERY_SECONDS)
        self._say(f"waited {time.monotonic() - repaired:.1f} s until everyone is served again")
        if waiting:
            self.violations.append(f"clients are not served after the last repair: {waiting}")

    def _judge(self, requests: list[Request]) -> None:
        service = self._service
        judge = Judge(service.shape, service.history, start=self._began)
        requests.sort(key=lambda request: request.began)
        shown = "".join(f"{request.shown(self._began)}\n" for request in requests)
        (self._folder / "requests.txt").write_text(shown)
        judgement = judge.judge(requests, service.prompts(), service.logs())
        self.violations += judgement.violations
        total = len(requests)
        self._say(f"{total} requests, for {judgement.owed} of them nothing was broken")
        for result, count in judgement.results.most_common():
            self._say(f"  {count:6} {result}")
        longest = sorted(request.ended - request.began for request in requests)
        if longest:
            self._say(f"longest request {longest[-1]:.1f} s, median {longest[total // 2]:.2f} s")

    def _say(self, line: str) -> None:
        print(f"{time.monotonic() - self._began:7.1f} s  {line}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument(
        "--shape",
        type=int,
        nargs=4,
        metavar=("SERVICES", "WORKERS", "GATEWAYS", "PROXIES"),
        default=astuple(FULL),
    )
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder")
    parser.add_argument("--nft", type=Path, required=True)
    parser.add_argument("--faketime", type=Path, required=True, help="libfaketimeMT.so.1")
    arguments = parser.parse_args()
    run = Run(arguments)
    run.all()
    for violation in run.violations[:SHOWN]:
        print(f"BROKEN: {violation}")
    print(f"seed {arguments.seed}: {len(run.violations)} rules broken")
    return 1 if run.violations else 0


if __name__ == "__main__":
    sys.exit(main())
