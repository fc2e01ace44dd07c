"""A whole SEV-SNP launch, and its digest for each number of vCPUs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from measure.errors import FormatError, InputError, UnsupportedError
from measure.snp import digest, features, vmsa
from measure.snp.digest import PageType
from measure.snp.firmware import Firmware, Section, SectionType
from measure.snp.kernel import KernelHashes

MAX_VCPUS = 255

_PAGE_TYPES = {
    SectionType.SECRETS: PageType.SECRETS,
    SectionType.CPUID: PageType.CPUID,
    SectionType.SVSM_CALLING_AREA: PageType.ZERO,
    SectionType.KERNEL_HASHES: PageType.ZERO,
}


@dataclass(frozen=True)
class Component:
    """One input of a launch, by its digest.

    Attributes:
        name: short, stands in measurements.json.
        description: what is hashed, and how.
        value: the digest.
    """

    name: str
    description: str
    value: bytes


@dataclass(frozen=True)
class Launch:
    """Everything that decides the launch digest, except the number of vCPUs.

    Attributes:
        firmware: see `firmware.from_image`.
        kernel: hashes of a direct boot, or None if the firmware boots from a disk.
        vmm: one of `vmsa.VMMS`.
        signature: the vCPUs' CPUID signature (32 bits); None for a VMM that does not measure it.
        guest_features: SEV_FEATURES (64 bits); no default, see `features`.

    Raises:
        InputError: values that do not go together.
        UnsupportedError: kernel hashes for a firmware that does not check them, or a guest feature
            that cannot be predicted.
    """

    firmware: Firmware
    kernel: KernelHashes | None
    vmm: vmsa.Vmm
    signature: int | None
    guest_features: int

    def __post_init__(self) -> None:
        features.check(self.guest_features)
        if (self.signature is None) != (self.vmm.rdx is not None):
            raise InputError(
                f"{self.vmm.name} does not measure the vCPU type, so leave it out"
                if self.vmm.rdx is not None
                else f"{self.vmm.name} measures the vCPU type, so one must be given"
            )
        if self.signature is not None and not 0 <= self.signature < 1 << 32:
            raise InputError(
                "invalid vCPU signature", expected="32 bits", seen=f"{self.signature:#x}"
            )
        if self.kernel is not None and self.firmware.hash_table is None:
            raise UnsupportedError(
                "the firmware does not check hashes of a kernel, so the kernel would not be "
                "measured; use a build like OVMF.amdsev.fd",
                file=self.firmware.file,
            )

    def digests(self) -> Iterator[bytes]:
        """The launch digests (48 bytes) for 1, 2, ... 255 vCPUs, each one step from the one before.

        Raises:
            FormatError: the second is wanted and the firmware has no address for further vCPUs.
        """
        state = self._extend_vcpu(self.before_vcpus(), self.vcpu_page(0))
        yield state
        other = self.vcpu_page(1)
        for _ in range(1, MAX_VCPUS):
            state = self._extend_vcpu(state, other)
            yield state

    def digest(self, vcpus: int) -> bytes:
        """The launch digest (48 bytes) for one number of vCPUs.

        Raises:
            InputError: not 1 to 255 vCPUs.
            FormatError: more than one, and the firmware has no address for them.
        """
        return self.digests_for([vcpus])[vcpus]

    def digests_for(self, counts: Iterable[int]) -> dict[int, bytes]:
        """The launch digests for some numbers of vCPUs, in ascending order; as costly as the last.

        Raises:
            InputError: not 1 to 255 vCPUs.
            FormatError: more than one, and the firmware has no address for them.
        """
        wanted = set(counts)
        for count in wanted:
            if not 1 <= count <= MAX_VCPUS:
                raise InputError(
                    "invalid number of vCPUs", expected=f"1 to {MAX_VCPUS}", seen=str(count)
                )
        numbered = zip(range(1, max(wanted, default=0) + 1), self.digests(), strict=False)
        return {count: value for count, value in numbered if count in wanted}

    def before_vcpus(self) -> bytes:
        """The digest after firmware and prepared memory, before the first vCPU."""
        sections = list(self.firmware.sections)
        if self.vmm.cpuid_last:
            sections.sort(key=lambda section: section.type is SectionType.CPUID)
        state = self.firmware.ovmf_hash
        for section in sections:
            state = self._extend_section(state, section)
        return state

    def vcpu_page(self, index: int) -> bytes:
        """The VMSA page (4096 bytes) of vCPU `index`; all but number 0 are alike.

        Raises:
            FormatError: not number 0, and the firmware has no address for further vCPUs.
        """
        eip = self.firmware.reset_eip if index else vmsa.RESET_VECTOR
        if not eip:
            raise FormatError(
                "the firmware does not say where a second vCPU starts",
                file=self.firmware.file,
                expected="an SEV-ES reset block in its table",
            )
        rdx = self.vmm.rdx if self.signature is None else self.signature
        assert rdx is not None
        return vmsa.page(self.vmm, eip, rdx, self.guest_features)

    def components(self, vcpus: int) -> list[Component]:
        """The inputs of the launch, in the order in which they are measured."""
        found = [
            Component(
                "firmware",
                "launch digest after the firmware's pages, nothing else",
                self.firmware.ovmf_hash,
            )
        ]
        if self.kernel is not None:
            for name, what, value in (
                ("kernel", "kernel", self.kernel.kernel),
                ("initrd", "initrd", self.kernel.initrd),
                ("command-line", "command line and a NUL", self.kernel.command_line),
            ):
                found.append(Component(name, f"SHA-256 of the {what}", value))
        for index, name, which in ((0, "vcpu-0", "the first"), (1, "vcpu-n", "each further")):
            if index < vcpus:
                value = hashlib.sha384(self.vcpu_page(index)).digest()
                found.append(Component(name, f"SHA-384 of the VMSA page of {which} vCPU", value))
        return found

    def _extend_section(self, state: bytes, section: Section) -> bytes:
        if section.type is SectionType.KERNEL_HASHES and self.kernel is not None:
            assert self.firmware.hash_table is not None
            return digest.extend_data(
                state, section.gpa, self.kernel.page(self.firmware.hash_table)
            )
        kind = (
            self.vmm.sec_memory
            if section.type is SectionType.SEC_MEMORY
            else _PAGE_TYPES[section.type]
        )
        return digest.extend_range(state, kind, section.gpa, section.size)

    def _extend_vcpu(self, state: bytes, page: bytes) -> bytes:
        content = hashlib.sha384(page).digest()
        return digest.extend(state, PageType.VMSA, self.vmm.vmsa_gpa, content)
