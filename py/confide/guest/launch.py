"""The root unit `confide-binding`: learns which manifest this machine is for, once, for everybody.

`python -m confide.guest.launch` runs before the machine has a network. The hardware decides where
the binding comes from:

* SEV-SNP: HOST_DATA of a report that the processor makes now. It reaches this machine through a
  channel that the host cannot read or write.
* TDX: MRCONFIGID of a TDREPORT, which the TDX module writes into this machine's own memory. A quote
  would come back through memory of the host.
* vTPM: the config disk. The binding then extends PCR 15, so that evidence shows it.

A confidential VM never reads the binding from the config disk. An error ends the machine: the unit
says so.

Sources: AMD 56860, table 23; Linux, include/uapi/linux/tdx-guest.h (TDX_CMD_GET_REPORT0).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sys
from pathlib import Path

from confide.encoding.console import say, show
from confide.errors import ConfideError, ConfigError, UnavailableError, VerificationError
from confide.guest.attest.platform import (
    TDX_DEVICE,
    TPM_DEVICE,
    Platform,
    below,
    detect_platform,
    tsm_reports,
)
from confide.guest.attest.tpm_device import open_device
from confide.guest.attest.tsm import SNP_PROVIDER, report_of
from confide.guest.binding import BINDING, BOUND
from confide.guest.mesh.config import CONFIG_COPY, read_disk
from confide.protocol.binding import REPORT_DATA_SIZE
from confide.protocol.launch import BINDING_PCR, BINDING_SIZE, UNBOUND, binding_pcr, mrconfigid
from confide.vendors.tpm.commands import pcr_extend, pcr_read, run

# _IOWR('T', 1, struct tdx_report_req): 64 bytes of report data, then room for 1024 of TDREPORT.
TDX_CMD_GET_REPORT0 = 0xC4405401


def establish_binding(root: Path = Path("/")) -> bytes:
    """The 32 bytes of this machine's binding, which its evidence shows from now on.

    `root` is the file system to look in. Raises a ConfideError if the binding is unknown or
    malformed, or if the hardware does not answer.
    """
    match detect_platform(root):
        case Platform.SEV_SNP:
            return _of_snp(root)
        case Platform.TDX:
            return _of_tdx(below(root, TDX_DEVICE))
        case Platform.VTPM:
            binding = read_disk(below(root, CONFIG_COPY)).manifest_sha256
            _extend_pcr(below(root, TPM_DEVICE), binding)
            return binding


def _of_snp(root: Path) -> bytes:
    # Imported here: the whole boot waits for this program, and it needs the code of one vendor.
    from confide.vendors.amd.report import Report

    nonce = secrets.token_bytes(REPORT_DATA_SIZE)
    report = Report.parse(report_of(tsm_reports(root), SNP_PROVIDER, nonce).outblob)
    _check_fresh(report.report_data, nonce)
    return report.host_data


def _of_tdx(device: Path) -> bytes:
    from confide.vendors.intel.tdreport import TDREPORT_SIZE, LocalReport

    nonce = secrets.token_bytes(REPORT_DATA_SIZE)
    request = bytearray(nonce + bytes(TDREPORT_SIZE))
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, TDX_CMD_GET_REPORT0, request)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnavailableError(
            "no-tdreport",
            "the TDX module makes no report for this machine",
            expected=f"a TDREPORT from {TDX_DEVICE}",
            seen=error.strerror or type(error).__name__,
            next="start the machine again",
        ) from error
    report = LocalReport.parse(bytes(request[REPORT_DATA_SIZE:]))
    _check_fresh(report.report_data, nonce)
    binding = report.mrconfigid[:BINDING_SIZE]
    if report.mrconfigid != mrconfigid(binding):
        raise ConfigError(
            "bad-mrconfigid",
            "this machine was launched for something that is not a manifest",
            expected=f"MRCONFIGID of {BINDING_SIZE} bytes, then zeros",
            seen=report.mrconfigid.hex(),
            next="launch it with the value that `measure tdx --manifest` prints",
        )
    return binding


def _check_fresh(seen: bytes, nonce: bytes) -> None:
    if seen != nonce:
        raise VerificationError(
            "stale-report",
            "the report is not the one that this machine asked for",
            expected=f"report data {nonce.hex()}",
            seen=seen.hex(),
            next="start the machine again",
        )


def _extend_pcr(device: Path, binding: bytes) -> None:
    with open_device(device) as exchange:
        run(exchange, pcr_extend(BINDING_PCR, binding))
        seen = run(exchange, pcr_read([BINDING_PCR])).get(BINDING_PCR, b"")
    if seen != binding_pcr(binding):
        raise ConfigError(
            "binding-register-used",
            f"PCR {BINDING_PCR} of the TPM holds more than this machine's binding",
            expected=binding_pcr(binding).hex(),
            seen=seen.hex(),
            next="give the machine a TPM whose PCR 15 only this machine extends",
        )


def write_binding(binding: bytes, path: Path = BINDING) -> None:
    """Write the binding where everybody in this machine may read it. It is never replaced.

    Beside it goes the file `BOUND`, if there is a manifest.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o444)  # whatever the umask
        file.write(binding)
    if binding != UNBOUND:
        path.with_name(BOUND.name).touch(exist_ok=False)


def main() -> None:
    """Establish the binding and write it. Exit with a message if that fails."""
    try:
        binding = establish_binding()
        write_binding(binding)
    except (ConfideError, OSError) as error:
        say(f"boot failed: {error}")
        sys.exit(1)
    if binding == UNBOUND:
        show("confide: this machine is bound to no manifest: it attests, and does nothing else")
    else:
        show(f"confide: this machine is bound to the manifest {binding.hex()}")


if __name__ == "__main__":
    main()
