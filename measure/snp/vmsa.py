"""The VMSA: the page that holds a vCPU's registers when it starts (APM, appendix B, table B-4).

Everything in it is measured, and VMMs do not agree on everything: `Vmm` is what is known to differ.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from measure.errors import InputError
from measure.snp.digest import PAGE_SIZE, PageType

# Where the boot processor starts; the others start at the firmware's SEV-ES reset address.
RESET_VECTOR = 0xFFFFFFF0

_SEGMENT = struct.Struct("<HHIQ")  # selector, attributes, limit, base
_LIMIT = 0xFFFF


@dataclass(frozen=True)
class Vmm:
    """What a VMM does in its own way at a launch.

    Attributes:
        name: what shapes and commands call it.
        text: what it is, for people.
        reset_cs, cs, ss, tr: segment attributes; `reset_cs` for a vCPU at the reset vector.
        g_pat: the page attribute table.
        rdx: a constant, or None for the vCPU's CPUID signature.
        mxcsr, fcw: control words of the SSE and x87 units.
        vmsa_gpa: guest physical address under which VMSA pages are measured.
        sec_memory: the type of the pages that the firmware starts in.
        cpuid_last: measure CPUID pages after all other sections.
    """

    name: str
    text: str
    reset_cs: int = 0x9B
    cs: int = 0x9B
    ss: int = 0x93
    tr: int = 0x8B
    g_pat: int = 0x0007040600070406
    rdx: int | None = None
    mxcsr: int = 0x1F80
    fcw: int = 0x37F
    # An address of all ones, cut to 48 bits and to a whole page.
    vmsa_gpa: int = 0xFFFFFFFFF000
    sec_memory: PageType = PageType.ZERO
    cpuid_last: bool = False


QEMU = Vmm("qemu", "QEMU on Linux 6.10 or newer (KVM_SEV_INIT2)")
# Without KVM_SEV_INIT2 the kernel leaves the floating point state out of the VMSA.
QEMU_WITHOUT_INIT2 = replace(
    QEMU, name="qemu-without-init2", text="QEMU on a kernel before KVM_SEV_INIT2", mxcsr=0, fcw=0
)
EC2 = Vmm(
    "ec2",
    "Amazon EC2",
    reset_cs=0x9A,
    ss=0x92,
    tr=0x83,
    rdx=0x600,
    mxcsr=0,
    fcw=0,
    cpuid_last=True,
)
GCE_MILAN = Vmm(
    "gce-milan",
    "Google Compute Engine on Milan (48-bit guest addresses)",
    g_pat=0x00070106,
    rdx=0x600,
    mxcsr=0,
    fcw=0,
    sec_memory=PageType.UNMEASURED,
)
GCE_GENOA = replace(
    GCE_MILAN,
    name="gce-genoa",
    text="Google Compute Engine on Genoa (52-bit guest addresses)",
    vmsa_gpa=0xFFFFFFFFFF000,
)

VMMS = {vmm.name: vmm for vmm in (QEMU, QEMU_WITHOUT_INIT2, EC2, GCE_MILAN, GCE_GENOA)}


def vmm_of(name: str) -> Vmm:
    """The VMM of that name.

    Raises:
        InputError: no VMM has this name.
    """
    try:
        return VMMS[name]
    except KeyError:
        raise InputError("unknown VMM", expected="one of " + ", ".join(VMMS), seen=name) from None


def page(vmm: Vmm, eip: int, rdx: int, features: int) -> bytes:
    """The VMSA page (4096 bytes) of a vCPU.

    Args:
        vmm: who builds it.
        eip: the address at which the vCPU starts (32 bits).
        rdx: the vCPU's CPUID signature, or the VMM's constant.
        features: SEV_FEATURES (64 bits).
    """
    area = bytearray(PAGE_SIZE)
    data = (0, 0x93, _LIMIT, 0)
    cs = vmm.reset_cs if eip == RESET_VECTOR else vmm.cs
    segments = {
        0x000: data,  # es
        0x010: (0xF000, cs, _LIMIT, eip & 0xFFFF0000),
        0x020: (0, vmm.ss, _LIMIT, 0),
        0x030: data,  # ds
        0x040: data,  # fs
        0x050: data,  # gs
        0x060: (0, 0, _LIMIT, 0),  # gdtr
        0x070: (0, 0x82, _LIMIT, 0),  # ldtr
        0x080: (0, 0, _LIMIT, 0),  # idtr
        0x090: (0, vmm.tr, _LIMIT, 0),
    }
    for offset, segment in segments.items():
        _SEGMENT.pack_into(area, offset, *segment)
    registers = {
        0x0D0: 0x1000,  # efer: SVME
        0x148: 0x40,  # cr4: MCE
        0x158: 0x10,  # cr0: ET
        0x160: 0x400,  # dr7
        0x168: 0xFFFF0FF0,  # dr6
        0x170: 0x2,  # rflags
        0x178: eip & 0xFFFF,  # rip
        0x268: vmm.g_pat,
        0x310: rdx,
        0x3B0: features,
        0x3E8: 0x1,  # xcr0: x87
    }
    for offset, value in registers.items():
        struct.pack_into("<Q", area, offset, value)
    struct.pack_into("<I", area, 0x408, vmm.mxcsr)
    struct.pack_into("<H", area, 0x410, vmm.fcw)
    return bytes(area)
