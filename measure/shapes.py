"""Machine shapes: the assumptions under which a prediction holds, and what they leave open."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A kind of machine.

    Attributes:
        name: stands in measurements.json and in manifests.
        requirements: what the machine must be like; each one changes a predicted register if it is
            not so, and then attestation fails.
        covers: register (SHA-256 bank) -> what it covers, for each one that has a prediction.
        left_out: register -> why it has none.
    """

    name: str
    requirements: tuple[str, ...]
    covers: dict[int, str]
    left_out: dict[int, str]

    @property
    def predicted(self) -> tuple[int, ...]:
        """The registers that have a prediction, ascending."""
        return tuple(sorted(self.covers))


_ADDED_AT_BOOT = {
    12: "command line and credentials added at boot (there are none)",
    13: "system extensions added at boot (there are none)",
    14: "Machine Owner Keys (there are none)",
}
_NOT_COVERED = {
    1: "ACPI tables and boot variables: they describe the host's machine (memory, devices)",
    6: "reserved for the host platform's maker; says nothing about the image",
    10: "owned by the kernel's IMA; its first entry depends on PCR 1",
    15: "owned by the running system",
    16: "debug register, can be reset",
    17: "dynamic root of trust, not used",
    18: "dynamic root of trust, not used",
    19: "dynamic root of trust, not used",
    20: "dynamic root of trust, not used",
    21: "dynamic root of trust, not used",
    22: "dynamic root of trust, not used",
    23: "application register, can be reset",
}
_OVMF = (
    "QEMU machine type q35 (PCR 0: the firmware keeps its timer's port in a measured volume)",
    "OVMF without Secure Boot as the only pflash code, an empty variable store (PCR 0, 7)",
    "no PCI option ROMs: romfile= empty for network cards (PCR 2)",
)
_GUEST = "the guest extends none of these registers: no systemd-pcrphase, no IMA policy (PCR 11)"

OVMF_DISK = Shape(
    name="ovmf-disk",
    requirements=(
        *_OVMF,
        "the image is the only disk with a boot index (PCR 4, 5: a failed attempt is measured)",
        "nothing passed with -kernel, no additions to the command line through SMBIOS (PCR 12)",
        _GUEST,
    ),
    covers={
        0: "firmware",
        2: "device firmware (option ROMs)",
        3: "device firmware's configuration",
        4: "boot path: the unified kernel image and the kernel in it",
        5: "partition table",
        7: "Secure Boot settings",
        8: "commands of a boot loader (there is none)",
        9: "command line and initrd that the kernel was given",
        11: "unified kernel image: kernel, initrd, command line with the layers' root hashes",
        **_ADDED_AT_BOOT,
    },
    left_out=_NOT_COVERED,
)

OVMF_DIRECT = Shape(
    name="ovmf-direct",
    requirements=(
        *_OVMF,
        "QEMU 10 or later: earlier ones rewrite the kernel's setup header (PCR 4)",
        "-kernel, -initrd and -append are the UKI's .linux, .initrd and .cmdline (PCR 4, 9)",
        _GUEST,
    ),
    covers={
        0: "firmware",
        2: "device firmware (option ROMs)",
        3: "device firmware's configuration",
        4: "boot path: the kernel",
        5: "nothing of a disk: the firmware starts no image from one",
        7: "Secure Boot settings",
        8: "commands of a boot loader (there is none)",
        9: "command line with the layers' root hashes, and initrd, that the kernel was given",
        11: "unified kernel image (there is none)",
        **_ADDED_AT_BOOT,
    },
    left_out=_NOT_COVERED,
)

VTPM_SHAPES = {s.name: s for s in (OVMF_DISK, OVMF_DIRECT)}
