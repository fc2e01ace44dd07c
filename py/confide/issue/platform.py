"""Which hardware attests this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from confide.errors import UnavailableError
from confide.formats.evidence import Evidence
from confide.issue.vtpm import DEVICE, VtpmAttester

# Signs of a confidential VM. Quietly attesting it by its vTPM would be a downgrade: the host that
# such a VM is protected from can make that TPM say anything.
CONFIDENTIAL = ("sys/kernel/config/tsm/report", "dev/sev-guest", "dev/tdx_guest")


class Attester(Protocol):
    """Makes evidence of this machine."""

    def evidence(self, report_data: bytes) -> Evidence:
        """Evidence that binds these 64 bytes (see `confide.formats.binding`)."""
        ...


def detect_attester(root: Path = Path("/")) -> Attester:
    """The attester for the hardware that is there, under the file system `root`.

    Raises UnavailableError if there is none, or one that is not supported.
    """
    for path in CONFIDENTIAL:
        if (root / path).exists():
            raise UnavailableError(
                "platform-unsupported",
                "this is a confidential VM of a kind that cannot be attested yet",
                expected="a machine with only a vTPM",
                seen=f"/{path}",
                next="boot the image on a machine without SEV-SNP and TDX",
            )
    device = root / DEVICE.relative_to("/")
    if not device.exists():
        raise UnavailableError(
            "no-platform",
            "nothing here can attest this machine",
            expected=f"a TPM as {DEVICE}",
            seen="no such device",
            next="start the machine with `confide run`, or give it a vTPM",
        )
    return VtpmAttester.from_device(device)
