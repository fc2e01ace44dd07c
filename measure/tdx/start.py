"""How QEMU is started for a TDX machine, as far as that changes its ACPI tables.

The tables say little of it, so QEMU's arguments are kept beside a machine's folder, one a line.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

_OPTIONS = ("-machine", "-m", "-smp")
_CONFIDENTIAL = ",confidential-guest-support=tdx0"
_DISK = "virtio-blk-pci,"


@dataclass(frozen=True)
class Start:
    """Number of vCPUs and of virtio-blk disks, and QEMU's machine type with its options."""

    vcpus: int
    disks: int
    machine: str

    def summary(self, memory_mib: int) -> str:
        """What `summary_of` finds in the arguments of a machine that is started like this."""
        options = [f"-m {memory_mib}", f"-machine {self.machine}{_CONFIDENTIAL}"]
        return _join([*options, f"-smp {self.vcpus}"], self.disks)


def summary_of(arguments: Sequence[str]) -> str:
    """QEMU's arguments that change the tables, in one order."""
    pairs = list(itertools.pairwise(arguments))
    options = [f"{name} {value}" for name, value in pairs if name in _OPTIONS]
    disks = sum(name == "-device" and value.startswith(_DISK) for name, value in pairs)
    return _join(sorted(options), disks)


def _join(options: Sequence[str], disks: int) -> str:
    return f"{' '.join(options)}, {disks} disks"
