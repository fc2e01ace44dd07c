"""Two machines, one of which the other refused."""

from __future__ import annotations

import time
from dataclasses import dataclass

from confide.errors import ConfideError
from confide.host.runner.vm import Machine
from confide.net.coordinator_client import CoordinatorClient
from confide.protocol.coordinator import RefusedJoin


@dataclass(frozen=True)
class Refused:
    """Both machines, still running, and whom the coordinator did not admit."""

    coordinator: Machine
    worker: Machine
    join: RefusedJoin


def wait_refused(coordinator: Machine, worker: Machine, seconds: float) -> RefusedJoin:
    """The join that the coordinator refused within this time."""
    client = CoordinatorClient(coordinator.url)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and worker.running:
        try:
            return client.refused()
        except ConfideError as error:
            if error.code != "none-refused":
                raise
            time.sleep(1)
    raise worker.failure("was not refused", "no refused join at the coordinator")
