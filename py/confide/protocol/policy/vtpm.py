"""What a manifest says of vTPMs: who vouches for their keys, and which registers are accepted.

A vTPM is software of the host, so it does not protect against the host. It is for development: only
the published development CA vouches for one, and that CA lets anybody be the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from confide.errors import FormatError
from confide.protocol.evidence import PCR_SIZE, PcrNumber
from confide.protocol.launch import BINDING_PCR
from measure.declare import Wire
from measure.kinds import Converted, Hex, MapOf, Name

# docs/protocol.md says what each covers. Nothing in 1, 6, 10 and 16 to 23 depends on the image; 15
# has the manifest that the machine was launched for.
REQUIRED_PCRS = (0, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14)


def _check_registers(pcrs: dict[int, bytes]) -> dict[int, bytes]:
    missing = [str(index) for index in REQUIRED_PCRS if index not in pcrs]
    if missing:
        raise FormatError(
            "manifest-pcrs",
            "a vTPM measurement leaves registers open",
            expected="PCRs " + " ".join(map(str, REQUIRED_PCRS)),
            seen="no PCR " + " ".join(missing),
        )
    if BINDING_PCR in pcrs:
        raise FormatError(
            "manifest-pcrs",
            "a vTPM measurement pins the register that follows from the manifest itself",
            expected=f"no PCR {BINDING_PCR}",
            seen=f"PCR {BINDING_PCR}",
        )
    return pcrs


@dataclass(frozen=True)
class VtpmReference:
    """Accepted registers of one machine shape: register number to 32-byte SHA-256 bank value.

    A decoded reference has a value for each of `REQUIRED_PCRS`, and none for PCR 15.
    """

    shape: Annotated[str, Name()]
    pcrs: Annotated[
        Mapping[int, bytes],
        Converted(MapOf(PcrNumber(), Hex(PCR_SIZE)), read=_check_registers, write=dict),
        "SHA-256 bank values by register number.",
        {
            "required": [str(index) for index in REQUIRED_PCRS],
            "properties": {str(BINDING_PCR): False},
        },
    ]


@dataclass(frozen=True)
class DevelopmentCa:
    """The published CA of the runner. It protects nothing."""

    spki_sha256: Annotated[
        bytes,
        Hex(32),
        Wire("development_ca"),
        "SHA-256 of the SubjectPublicKeyInfo (DER) of the published development CA.",
    ]
