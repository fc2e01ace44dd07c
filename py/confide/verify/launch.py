"""The check that a machine was launched for one manifest, the same on every platform.

The expected value follows from the manifest's bytes (`confide.protocol.launch`). It is no
reference value: no manifest and no policy can state another one, or leave it open.
"""

from __future__ import annotations

from collections.abc import Callable

from confide.errors import PolicyError
from confide.protocol.launch import BINDING_SIZE, UNBOUND
from confide.verify.verdict import Check

_NAME = "launch binding"


def check_launch(
    place: str, value_of: Callable[[bytes], bytes], binding: bytes, seen: bytes | None
) -> Check:
    """Whether the machine was launched for exactly this manifest.

    Args:
        place: what carries the binding on the platform: HOST_DATA, MRCONFIGID or PCR 15.
        value_of: what stands there for a binding.
        binding: SHA-256 of the manifest's bytes; `UNBOUND` for a machine that has none yet.
        seen: what stands there, None if the evidence does not say.

    Raises:
        PolicyError: `unset-reference`, if `binding` is not 32 bytes.
    """
    if len(binding) != BINDING_SIZE:
        raise PolicyError(
            "unset-reference",
            "nothing says which manifest the machine has to be launched for",
            expected=f"SHA-256 of the manifest, {BINDING_SIZE} bytes",
            seen=f"{len(binding)} bytes",
        )
    expected = value_of(binding)
    source = "SHA-256 of the manifest" if binding != UNBOUND else "launch for no manifest"
    shown = "not quoted" if seen is None else seen.hex()
    if seen == value_of(UNBOUND):
        shown += " (launched for no manifest)"
    return Check(_NAME, f"{place} {expected.hex()}", shown, seen == expected, source)
