"""How QEMU is started for a TDX machine, as far as that changes its ACPI tables.

The tables say little of it, so QEMU's arguments are kept beside a machine's folder, one a line.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

_OPTIONS = ("-global", "-machine", "-m", "-smp")
_CONFIDENTIAL = ",confidential-guest-support=tdx0"
_DISK, _PORT, _GPU = "virtio-blk-pci,", "pcie-root-port,", "vfio-pci,"
# Without it the tables would depend on the size of the GPUs' memory.
_PCI_WINDOW = "-global q35-pcihost.pci-hole64-size=4096G"


@dataclass(frozen=True)
class Start:
    """Number of vCPUs, of virtio-blk disks and of GPUs; QEMU's machine type with its options.

    Each GPU is passed through (vfio-pci) behind a port of its own.
    """

    vcpus: int
    disks: int
    gpus: int
    machine: str

    def summary(self, memory_mib: int) -> str:
        """What `summary_of` finds in the arguments of a machine that is started like this."""
        options = [_PCI_WINDOW] if self.gpus else []
        options += [f"-m {memory_mib}", f"-machine {self.machine}{_CONFIDENTIAL}"]
        return _join([*options, f"-smp {self.vcpus}"], self.disks, self.gpus, self.gpus)


def summary_of(arguments: Sequence[str]) -> str:
    """QEMU's arguments that change the tables, in one order."""
    pairs = list(itertools.pairwise(arguments))
    options = [f"{name} {value}" for name, value in pairs if name in _OPTIONS]
    devices = [value for name, value in pairs if name == "-device"]
    counts = [sum(d.startswith(kind) for d in devices) for kind in (_DISK, _PORT, _GPU)]
    return _join(sorted(options), *counts)


def _join(options: Sequence[str], disks: int, ports: int, gpus: int) -> str:
    return f"{' '.join(options)}, {disks} disks, {ports} PCIe ports, {gpus} GPUs"
