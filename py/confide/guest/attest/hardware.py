"""Finds the attester for the hardware of this machine."""

from __future__ import annotations

from pathlib import Path

from confide.guest.attest.confidential import CCEL, SnpAttester, TdxAttester
from confide.guest.attest.platform import (
    TPM_DEVICE,
    Platform,
    below,
    detect_platform,
    tsm_reports,
)
from confide.guest.attest.service import SOCKET, Attester, SocketAttester
from confide.guest.attest.vtpm import VtpmAttester


def detect_attester(root: Path = Path("/")) -> Attester:
    """The machine's attestation service if it has one, else its hardware.

    Raises UnavailableError as `detect_hardware` does.
    """
    service = below(root, SOCKET)
    return SocketAttester(service) if service.exists() else detect_hardware(root)


def detect_hardware(root: Path = Path("/")) -> Attester:
    """The attester for the hardware under the file system `root`.

    Raises UnavailableError if no hardware can attest the machine, or if it is not supported.
    """
    match detect_platform(root):
        case Platform.SEV_SNP:
            return SnpAttester(tsm_reports(root))
        case Platform.TDX:
            return TdxAttester(tsm_reports(root), below(root, CCEL))
        case Platform.VTPM:
            return VtpmAttester.from_device(below(root, TPM_DEVICE))
