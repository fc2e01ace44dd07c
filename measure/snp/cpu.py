"""vCPU types: the CPUID signature that a vCPU finds in rdx when it starts, and so is measured.

Source: QEMU, target/i386/cpu.c (builtin_x86_defs): family, model and stepping of each model. The
versions of a model differ in features, which are not measured, never in its signature.
"""

from __future__ import annotations

from measure.errors import InputError

# name -> family, model, stepping
_MODELS = {
    "EPYC": (23, 1, 2),
    "EPYC-Rome": (23, 49, 0),
    "EPYC-Milan": (25, 1, 1),
    "EPYC-Genoa": (25, 17, 0),
    "EPYC-Turin": (26, 0, 0),
}
# The versions that QEMU 11.1 has, and one alias.
_VARIANTS = {
    "EPYC": ("", "-v1", "-v2", "-IBPB", "-v3", "-v4", "-v5"),
    "EPYC-Rome": ("", "-v1", "-v2", "-v3", "-v4", "-v5"),
    "EPYC-Milan": ("", "-v1", "-v2", "-v3", "-v4"),
    "EPYC-Genoa": ("", "-v1", "-v2", "-v3"),
    "EPYC-Turin": ("", "-v1", "-v2"),
}


def signature(family: int, model: int, stepping: int) -> int:
    """CPUID function 1, EAX (AMD 25481, "Family, Model, Stepping Identifiers").

    Raises:
        InputError: a number that does not fit: family 0..270, model 0..255, stepping 0..15.
    """
    for name, value, most in (
        ("family", family, 15 + 255),
        ("model", model, 255),
        ("stepping", stepping, 15),
    ):
        if not 0 <= value <= most:
            raise InputError(f"invalid vCPU {name}", expected=f"0 to {most}", seen=str(value))
    base = min(family, 15)
    extended = family - base
    return extended << 20 | (model >> 4) << 16 | base << 8 | (model & 15) << 4 | stepping


TYPES: dict[str, int] = {
    model + variant: signature(*_MODELS[model])
    for model, variants in _VARIANTS.items()
    for variant in variants
}


def signature_of(vcpu_type: str) -> int:
    """The signature of a vCPU type, by QEMU's name of it.

    Raises:
        InputError: a type that is not in the table.
    """
    try:
        return TYPES[vcpu_type]
    except KeyError:
        raise InputError(
            "unknown vCPU type", expected="one of " + ", ".join(TYPES), seen=vcpu_type
        ) from None
