"""What a client found out about each party of a service."""

from __future__ import annotations

from dataclasses import dataclass

from confide.verify.verdict import Verdict

_NOT_REACHED = Verdict(())


@dataclass(frozen=True)
class ServiceVerdict:
    """The checks of each party that a client verifies itself, in this order.

    A verdict without checks has not passed: verification ended before that party.
    """

    coordinator: Verdict = _NOT_REACHED
    secret_services: Verdict = _NOT_REACHED
    workers: Verdict = _NOT_REACHED

    @property
    def passed(self) -> bool:
        """Whether every check of all parties passed."""
        return self.coordinator.passed and self.secret_services.passed and self.workers.passed

    @property
    def whole(self) -> Verdict:
        """All checks in the order in which they were made."""
        return self.coordinator + self.secret_services + self.workers
