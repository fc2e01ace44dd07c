"""SIMULATED: Linux's configfs-tsm as a Python object, faithful in what an attester can observe.

A report is made when it is first read after a write, and kept until the next; `generation` counts
writes; reading before writing is EINVAL; there is no provider without `provider`; the privilege
level cannot be written by mistake, because every write but `inblob` fails the test.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Instance:
    inblob: bytes = b""
    generation: int = 0
    made_from: bytes | None = None
    outblob: bytes = b""


def no_hook(folder: SimulatedTsm, name: str) -> None:
    """Nobody interferes."""


@dataclass
class SimulatedTsm:
    """`make_report` gives the outblob for an inblob; `auxblob` is None where there is no such file.

    `failures` are errors that reading an outblob gives, one after the other; `before_read` is
    called then too, to interfere.
    """

    make_report: Callable[[bytes], bytes]
    provider: str | None = "sev_guest"
    auxblob: bytes | None = b""
    failures: list[int] = field(default_factory=list)
    before_read: Callable[[SimulatedTsm, str], None] = no_hook
    instances: dict[str, Instance] = field(default_factory=dict)
    made: int = 0

    def make(self, name: str) -> None:
        if self.provider is None:
            raise _error(errno.ENXIO)
        if name in self.instances:
            raise _error(errno.EEXIST)
        assert "/" not in name
        self.instances[name] = Instance()
        self.made += 1

    def remove(self, name: str) -> None:
        del self.instances[name]

    def read(self, name: str, attribute: str) -> bytes:
        instance = self.instances[name]
        if attribute == "generation":
            return b"%d\n" % instance.generation
        if attribute == "provider":
            return f"{self.provider}\n".encode()
        if attribute == "auxblob" and self.auxblob is None:
            raise _error(errno.ENOENT)
        if attribute not in ("outblob", "auxblob"):
            raise AssertionError(f"{attribute} is not to be read")
        if not instance.inblob:
            raise _error(errno.EINVAL)
        if attribute == "outblob":
            if self.failures:
                raise _error(self.failures.pop(0))
            self.before_read(self, name)
        if instance.made_from != instance.inblob:
            instance.outblob = self.make_report(instance.inblob)
            instance.made_from = instance.inblob
        return instance.outblob if attribute == "outblob" else self.auxblob or b""

    def write(self, name: str, attribute: str, data: bytes) -> None:
        assert attribute == "inblob", f"{attribute} is to be left alone"
        assert 0 < len(data) <= 64
        instance = self.instances[name]
        instance.inblob = data
        instance.generation += 1


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
