"""Finds the hardware that attests this machine. What the host says plays no part."""

from __future__ import annotations

from pathlib import Path

from confide.errors import UnavailableError
from confide.guest.attest.service import SOCKET, Attester, SocketAttester
from confide.guest.attest.tsm import (
    CCEL,
    REPORTS,
    SNP_PROVIDER,
    TDX_PROVIDER,
    ConfigFs,
    SnpAttester,
    TdxAttester,
    TsmReports,
)
from confide.guest.attest.vtpm import DEVICE, VtpmAttester

# Signs of a confidential VM. Its vTPM must not attest it: the host, from which such a VM is
# protected, can make that TPM say anything.
CONFIDENTIAL = ("dev/sev-guest", "dev/tdx_guest")


def detect_attester(root: Path = Path("/")) -> Attester:
    """The machine's attestation service if it has one, else its hardware.

    Raises UnavailableError as `detect_hardware` does.
    """
    service = root / SOCKET.relative_to("/")
    return SocketAttester(service) if service.exists() else detect_hardware(root)


def detect_hardware(root: Path = Path("/")) -> Attester:
    """The attester for the hardware under the file system `root`.

    A confidential VM is attested as one or not at all. Raises UnavailableError if no hardware can
    attest the machine, or if it is not supported.
    """
    folder = root / REPORTS.relative_to("/")
    reports = TsmReports(ConfigFs(folder))
    provider = reports.provider() if folder.exists() else None
    if provider == SNP_PROVIDER:
        return SnpAttester(reports)
    if provider == TDX_PROVIDER:
        return TdxAttester(reports, root / CCEL.relative_to("/"))
    signs = [f"/{path}" for path in CONFIDENTIAL if (root / path).exists()]
    if provider is not None or signs:
        raise UnavailableError(
            "platform-unsupported",
            "the kernel cannot attest this confidential VM",
            expected=f"{SNP_PROVIDER} or {TDX_PROVIDER} in {REPORTS}",
            seen=ascii((provider or "none")[:80]) + "".join(f", {sign}" for sign in signs),
            next="boot a kernel with configfs-tsm for this machine, and mount configfs",
        )
    device = root / DEVICE.relative_to("/")
    if not device.exists():
        raise UnavailableError(
            "no-platform",
            "this machine has no hardware that can attest it",
            expected=f"a TPM as {DEVICE}",
            seen="no such device",
            next="start the machine with `confide run`, or give it a vTPM",
        )
    return VtpmAttester.from_device(device)
