"""Platform `sev-snp` in measurements.json: launch digests, and what the firmware says of itself.

The firmware's pages are there as one digest. With the hashes of kernel, initrd and command line,
which the file has anyway, that is enough to compute every launch digest again.
"""

from __future__ import annotations

from collections.abc import Sequence

from measure import ovmf
from measure.errors import FormatError
from measure.report.form import LaunchComponent, SectionEntry, SnpFirmware, SnpMachine
from measure.snp import firmware
from measure.snp.firmware import Firmware, SectionType
from measure.snp.kernel import TABLE_SIZE, KernelHashes
from measure.snp.prediction import Prediction, SnpShape, predict

_FILE = "firmware in the measurements"


def write(prediction: Prediction) -> SnpMachine:
    """A machine's entry."""
    shape = prediction.shape
    return SnpMachine(
        shape=shape.name,
        vmm=shape.vmm,
        vcpu_type=shape.vcpu_type,
        vcpus=shape.vcpus,
        guest_features=shape.guest_features,
        launch_digest=prediction.digest,
        components=tuple(
            LaunchComponent(part.name, part.description, part.value)
            for part in prediction.launch.components(shape.vcpus)
        ),
    )


def read(
    machines: Sequence[SnpMachine], started: Firmware, kernel: KernelHashes
) -> tuple[Prediction, ...]:
    """What `write` was given, computed anew from firmware, kernel and machines.

    Raises:
        InputError, UnsupportedError: a machine that cannot be launched.
    """
    shapes = [SnpShape(m.vmm, m.vcpu_type, m.vcpus, m.guest_features) for m in machines]
    return predict(shapes, started, kernel)


def write_firmware(described: Firmware) -> SnpFirmware:
    """What a launch needs to know of a firmware."""
    return SnpFirmware(
        digest=described.ovmf_hash,
        sections=tuple(SectionEntry(s.type, s.gpa, s.size) for s in described.sections),
        hash_table_offset=described.hash_table,
        reset_address=described.reset_eip,
    )


def read_firmware(described: SnpFirmware) -> Firmware:
    """What `write_firmware` was given.

    Raises:
        FormatError: values that contradict each other.
    """
    pages = [s.address for s in described.sections if s.type == SectionType.KERNEL_HASHES]
    table = None
    if described.hash_table_offset is not None:
        if not pages:
            raise FormatError("the table of kernel hashes has no page", file=_FILE)
        table = ovmf.HashTable(pages[0] + described.hash_table_offset, TABLE_SIZE)
    return firmware.from_metadata(
        described.digest,
        tuple(ovmf.SevSection(s.address, s.size, s.type.value, 0) for s in described.sections),
        table,
        described.reset_address,
        _FILE,
    )
