"""A SIMULATED machine whose quotes take time, one after the other, as those of a TPM do."""

from __future__ import annotations

import time
from threading import Lock

from confide.protocol.evidence import Evidence
from tests.support.simulated_machine import NOW, SimulatedMachine


class SlowMachine(SimulatedMachine):
    """A coordinator's; each quote takes this many seconds."""

    def __init__(self, seconds: float, *, manifest: bytes, now: int = NOW) -> None:
        super().__init__("coordinator", manifest=manifest, now=now)
        self._seconds = seconds
        self._device = Lock()

    def evidence(self, report_data: bytes) -> Evidence:
        with self._device:
            time.sleep(self._seconds)
            return super().evidence(report_data)
