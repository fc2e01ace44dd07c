"""The shape of a TDX machine: everything but the measured files that changes a register.

How the machine is started changes its ACPI and SMBIOS tables (`measure.tdx.machine`); a shape
that states it is only measured with those of such a machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from measure.errors import InputError, UnsupportedError
from measure.tdx import variables
from measure.tdx.start import Start

MIB = 1 << 20
MAX_MEMORY = 1 << 51  # half of the largest guest address space: the other half is shared memory

# Releases of edk2, as (year, month), between which its measurements changed.
_FIRST_KNOWN = (2024, 2)
_SEPARATOR_MOVED = (2024, 11)
_LAST_WITHOUT_VMM_DATA = (2025, 2)
_FIRST_WITH_VMM_DATA = (2026, 5)
_LAST_KNOWN = (2026, 8)


class PageOrder(StrEnum):
    """How the VMM builds a machine's memory, which MRTD shows."""

    SINGLE = "single-pass"
    """Each page is added and then measured: QEMU since 10.1, Google's cloud."""
    TWO = "two-pass"
    """All pages of a section are added, then all are measured: Intel's and Canonical's QEMU 8."""


class Boot(StrEnum):
    """What the firmware starts."""

    DIRECT = "direct"
    """The kernel that QEMU was given with -kernel, -initrd and -append."""
    DISK = "disk"
    """The unified kernel image on the disk's EFI system partition."""


@dataclass(frozen=True)
class TdxShape:
    """One kind of TDX machine.

    Attributes:
        name: stands in measurements.json and in manifests.
        memory: bytes, whole MiB.
        edk2: release (year, month) that the firmware is built from. It decides where separators
            go, what else is measured, and how the command line is passed on.
        page_order: decides MRTD.
        attributes, xfam: TD attributes and extended features (64 bits each). They change no
            register; the quote has them beside the registers.
        boot: decides RTMR 1 and 2.
        boot_variables: names and data of BootOrder and the Boot#### in it, in this order; None
            for those that the firmware makes when it starts a kernel directly.
        start: how the machine that is measured has to be started; None if it is not known.

    Raises:
        InputError: values that no machine has.
        UnsupportedError: a release whose measurements are not known.
    """

    name: str
    memory: int
    edk2: tuple[int, int]
    page_order: PageOrder
    attributes: int
    xfam: int
    boot: Boot
    boot_variables: tuple[tuple[str, bytes], ...] | None = None
    start: Start | None = None

    def __post_init__(self) -> None:
        if not 0 < self.memory < MAX_MEMORY or self.memory % MIB:
            raise InputError(
                f"shape {self.name}: invalid memory size",
                expected=f"whole MiB, below {MAX_MEMORY // MIB}",
                seen=f"{self.memory} bytes",
            )
        for what, value in (("attributes", self.attributes), ("xfam", self.xfam)):
            if not 0 <= value < 1 << 64:
                raise InputError(f"shape {self.name}: {what} are not 64 bits", seen=f"{value:#x}")
        old = _FIRST_KNOWN <= self.edk2 <= _LAST_WITHOUT_VMM_DATA
        if not old and not _FIRST_WITH_VMM_DATA <= self.edk2 <= _LAST_KNOWN:
            raise UnsupportedError(
                f"shape {self.name}: what firmware of this edk2 release measures is not known",
                expected="2024.02 to 2025.02, or 2026.05 to 2026.08",
                seen=f"{self.edk2[0]}.{self.edk2[1]:02}",
            )
        boot_variables = self.measured_boot_variables()
        order = dict(boot_variables).get("BootOrder", b"")
        names = [name for name, _ in boot_variables]
        if len(order) % 2 or names != ["BootOrder", *variables.option_names(order)]:
            raise InputError(
                f"shape {self.name}: invalid boot variables",
                expected="BootOrder, then each option that it names",
                seen=", ".join(names) or "none",
            )

    @property
    def separator_rtmr(self) -> int:
        """The register of the separator at the end of the firmware's work.

        Old firmware put it into RTMR 0, which then has two.
        """
        return 1 if self.edk2 >= _SEPARATOR_MOVED else 0

    @property
    def measures_vmm_data(self) -> bool:
        """Whether RTMR 0 also covers items of fw_cfg and the SMBIOS tables."""
        return self.edk2 >= _FIRST_WITH_VMM_DATA

    def measured_boot_variables(self) -> tuple[tuple[str, bytes], ...]:
        """Names and data of the boot variables, in the order of their measurement.

        Raises:
            InputError: the shape boots from a disk and does not name them. They depend on the
                machine's devices.
            UnsupportedError: it is not known which ones this firmware makes for a direct boot.
        """
        if self.boot_variables is not None:
            return self.boot_variables
        if self.boot is Boot.DISK:
            raise InputError(
                f"shape {self.name}: a boot from disk needs boot variables",
                expected="BootOrder and each Boot#### that it names",
            )
        if self.edk2 <= _LAST_WITHOUT_VMM_DATA:
            return variables.only_application("UiApp")
        if self.edk2 == _LAST_KNOWN:
            return variables.only_application("BootManagerMenuApp")
        raise UnsupportedError(
            f"shape {self.name}: which boot variables this firmware makes is not known",
            expected="boot variables in the shape",
            seen=f"edk2 {self.edk2[0]}.{self.edk2[1]:02}",
        )
