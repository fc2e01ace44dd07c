"""Guest features: the SEV_FEATURES field of a VMSA, which is measured and has no safe default.

Source: APM, appendix B (VMSA, offset 0x3b0). The host's kernel decides: 0x1 is SEV-SNP and nothing
else; Linux 6.6 and 6.7, and any kernel with `kvm_amd debug_swap=1`, may also set 0x20 (debug swap),
so the same machine has another digest with 0x21. That is why nothing here assumes a value.
"""

from __future__ import annotations

from measure.errors import InputError, UnsupportedError

SNP_ACTIVE = 1 << 0
VTOM = 1 << 1

_NAMES = {
    0: "SNPActive",
    1: "vTOM",
    2: "ReflectVC",
    3: "RestrictedInjection",
    4: "AlternateInjection",
    5: "DebugVirtualization",
    6: "PreventHostIBS",
    7: "BTBIsolation",
    8: "VmplSSS",
    9: "SecureTSC",
    10: "VmgexitParameter",
    12: "IbsVirtualization",
    14: "VmsaRegProt",
    15: "SmtProtection",
}


def check(features: int) -> int:
    """The value itself.

    Raises:
        InputError: not a 64-bit number, or one that no SEV-SNP guest can have.
        UnsupportedError: a feature with a further, unknown value in the VMSA.
    """
    if not 0 <= features < 1 << 64:
        raise InputError("invalid guest features", expected="64 bits", seen=f"{features:#x}")
    if not features & SNP_ACTIVE:
        raise InputError(
            "the guest features lack SEV-SNP itself",
            expected="bit 0 set (0x1, or 0x21 with debug swap)",
            seen=f"{features:#x}",
        )
    if features & VTOM:
        raise UnsupportedError(
            "vTOM (guest feature 0x2) puts an address in the VMSA that is not known here",
            seen=f"{features:#x}",
        )
    return features


def names(features: int) -> list[str]:
    """The names of the bits that are set, lowest first; `bit N` where the APM has no name."""
    return [
        _NAMES.get(bit, f"bit {bit}") for bit in range(features.bit_length()) if features >> bit & 1
    ]
