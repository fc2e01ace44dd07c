"""Which hardware says what this machine is. What the host says plays no part."""

from __future__ import annotations

from enum import Enum, auto
from pathlib import Path

from confide.errors import UnavailableError
from confide.guest.attest.tsm import (
    REPORTS,
    SNP_PROVIDER,
    TDX_PROVIDER,
    ConfigFs,
    TsmReports,
)

TDX_DEVICE = Path("/dev/tdx_guest")
TPM_DEVICE = Path("/dev/tpmrm0")
# Signs of a confidential VM. Its vTPM must not attest it: the host, from which such a VM is
# protected, can make that TPM say anything.
CONFIDENTIAL = (Path("/dev/sev-guest"), TDX_DEVICE)


class Platform(Enum):
    """What can attest a machine."""

    SEV_SNP = auto()
    TDX = auto()
    VTPM = auto()


def below(root: Path, path: Path) -> Path:
    """This absolute path in the file system `root`."""
    return root / path.relative_to("/")


def tsm_reports(root: Path) -> TsmReports:
    """The reports of a confidential VM, under the file system `root`."""
    return TsmReports(ConfigFs(below(root, REPORTS)))


def detect_platform(root: Path) -> Platform:
    """The hardware under the file system `root` that can attest the machine.

    A confidential VM is attested as one or not at all. Raises UnavailableError if no hardware can
    attest the machine, or if it is not supported.
    """
    provider = tsm_reports(root).provider() if below(root, REPORTS).exists() else None
    if provider == SNP_PROVIDER:
        return Platform.SEV_SNP
    if provider == TDX_PROVIDER:
        return Platform.TDX
    signs = [str(path) for path in CONFIDENTIAL if below(root, path).exists()]
    if provider is not None or signs:
        raise UnavailableError(
            "platform-unsupported",
            "the kernel cannot attest this confidential VM",
            expected=f"{SNP_PROVIDER} or {TDX_PROVIDER} in {REPORTS}",
            seen=ascii((provider or "none")[:80]) + "".join(f", {sign}" for sign in signs),
            next="boot a kernel with configfs-tsm for this machine, and mount configfs",
        )
    if not below(root, TPM_DEVICE).exists():
        raise UnavailableError(
            "no-platform",
            "this machine has no hardware that can attest it",
            expected=f"a TPM as {TPM_DEVICE}",
            seen="no such device",
            next="start the machine with `confide run`, or give it a vTPM",
        )
    return Platform.VTPM
