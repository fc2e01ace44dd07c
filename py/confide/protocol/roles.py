"""Which machines a service consists of, and what a model may be asked to do."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a machine does; the value is its name on every wire."""

    COORDINATOR = "coordinator"
    SECRET_SERVICE = "secret-service"  # noqa: S105  (a name, not a secret)
    WORKER_CPU = "worker-cpu"
    WORKER_GPU = "worker-gpu"

    @property
    def has_gpus(self) -> bool:
        """Does a machine of this role have GPUs that it attests?"""
        return self is Role.WORKER_GPU


WORKERS = (Role.WORKER_CPU, Role.WORKER_GPU)
"""The roles that serve models."""


class Task(StrEnum):
    """What a model may be asked to do; the value is its name on every wire."""

    CHAT = "chat"
    COMPLETION = "completion"
