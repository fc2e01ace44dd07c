"""Launch digests for a list of machines that start the same firmware, kernel and command line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from measure.snp import cpu, vmsa
from measure.snp.firmware import Firmware
from measure.snp.kernel import KernelHashes
from measure.snp.launch import Launch


@dataclass(frozen=True)
class SnpShape:
    """A machine, as far as its launch digest depends on it.

    Attributes:
        vmm: one of `vmsa.VMMS`.
        vcpu_type: one of `cpu.TYPES`; None for a VMM that does not measure it.
        vcpus: 1 to 255.
        guest_features: SEV_FEATURES of the host's kernel.
    """

    vmm: str
    vcpu_type: str | None
    vcpus: int
    guest_features: int

    @property
    def name(self) -> str:
        """Unique to the machine; stands in measurements.json and in manifests."""
        parts = [self.vmm, *([self.vcpu_type.lower()] if self.vcpu_type else []), str(self.vcpus)]
        if self.guest_features != 1:
            parts.append(f"features-{self.guest_features:x}")
        return "-".join(parts)

    def launch(self, firmware: Firmware, kernel: KernelHashes | None) -> Launch:
        """The launch of such a machine, except its number of vCPUs.

        Raises:
            InputError: a VMM or vCPU type that does not exist, or that do not go together.
            UnsupportedError: see `Launch`.
        """
        signature = None if self.vcpu_type is None else cpu.signature_of(self.vcpu_type)
        vmm = vmsa.vmm_of(self.vmm)
        return Launch(firmware, kernel, vmm, signature, self.guest_features)


@dataclass(frozen=True)
class Prediction:
    """What one machine's launch digest (48 bytes) will be."""

    shape: SnpShape
    launch: Launch
    digest: bytes


def predict(
    shapes: Iterable[SnpShape], firmware: Firmware, kernel: KernelHashes | None
) -> tuple[Prediction, ...]:
    """The predictions, in the order of `shapes`; machines that differ in vCPUs share the work.

    Raises:
        InputError, UnsupportedError, FormatError: see `Launch`.
    """
    listed = list(shapes)
    launches = {shape: shape.launch(firmware, kernel) for shape in listed}
    counts: dict[Launch, list[int]] = defaultdict(list)
    for shape, launch in launches.items():
        counts[launch].append(shape.vcpus)
    digests = {launch: launch.digests_for(wanted) for launch, wanted in counts.items()}
    return tuple(
        Prediction(shape, launches[shape], digests[launches[shape]][shape.vcpus])
        for shape in listed
    )
