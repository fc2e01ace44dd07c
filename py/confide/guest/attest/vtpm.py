"""The vTPM attester: the attestation key that the runner certified quotes the boot registers.

The runner stores three items in the TPM's NV memory: the template from which the TPM makes its
attestation key, a certificate for that key, and the issuer's certificate.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from confide.errors import FormatError, UnavailableError
from confide.guest.attest.eventlog import read_event_log
from confide.guest.attest.tpm_device import open_device
from confide.protocol.binding import REPORT_DATA_SIZE, TPM_EXTRA_DATA_SIZE
from confide.protocol.evidence import Evidence, VtpmReport
from confide.vendors.tpm.commands import (
    Exchange,
    ResponseCode,
    TpmRefusedError,
    create_primary,
    flush_context,
    nv_read_all,
    quote,
    read_pcrs,
    run,
)
from confide.vendors.tpm.structures import (
    AK_ISSUER_NV,
    ECC_AK,
    RSA_AK,
    AkIndices,
    Quote,
    check_ak_template,
    pcr_digest,
)

EVENT_LOG = Path("/run/confide/event_log")
# All registers that the boot chain measures into. 16 and up are for debugging and dynamic launch.
QUOTED_PCRS = frozenset(range(16))
QUOTE_ATTEMPTS = 3


class VtpmAttester:
    """Makes evidence from a TPM. Thread-safe: each evidence opens a connection.

    `connect` opens a connection and gives the exchange of command and response bytes.
    """

    def __init__(
        self, connect: Callable[[], AbstractContextManager[Exchange]], event_log: Path = EVENT_LOG
    ) -> None:
        self._connect = connect
        self._event_log = event_log

    @classmethod
    def from_device(cls, device: Path, event_log: Path = EVENT_LOG) -> VtpmAttester:
        """An attester on a Linux TPM device with resource management."""
        return cls(lambda: open_device(device), event_log)

    def evidence(self, report_data: bytes) -> Evidence:
        """Evidence that binds the first 32 of these 64 bytes (the rest is zero).

        Raises UnavailableError if the TPM or the event log is missing, or the TPM not provisioned.
        """
        if len(report_data) != REPORT_DATA_SIZE or any(report_data[TPM_EXTRA_DATA_SIZE:]):
            raise FormatError(
                "bad-report-data",
                "the data to attest does not fit into a TPM quote",
                expected=f"{REPORT_DATA_SIZE} bytes, zero from {TPM_EXTRA_DATA_SIZE} on",
                seen=f"{len(report_data)} bytes",
            )
        with self._connect() as exchange:
            key, certificate = _find_key(exchange)
            report = _quote(exchange, key, report_data[:TPM_EXTRA_DATA_SIZE])
            issuer = _read(exchange, AK_ISSUER_NV)
        chain = (certificate,) if issuer is None else (certificate, issuer)
        return Evidence("vtpm", report.encode(), chain, read_event_log(self._event_log))


def _quote(exchange: Exchange, indices: AkIndices, extra_data: bytes) -> VtpmReport:
    """Read and quote the registers, again if one was extended between the two."""
    template = _read(exchange, indices.template)
    if template is None:
        raise _not_provisioned("attestation key template", indices.template)
    check_ak_template(template)
    key, _ = run(exchange, create_primary(template))
    try:
        for _ in range(QUOTE_ATTEMPTS):
            pcrs = read_pcrs(exchange, QUOTED_PCRS)
            attest, signature = run(exchange, quote(key, extra_data, QUOTED_PCRS))
            if Quote.parse(attest).pcr_digest == pcr_digest(pcrs):
                return VtpmReport(attest, signature, pcrs)
    finally:
        run(exchange, flush_context(key))
    raise UnavailableError(
        "registers-changing",
        "the registers of the TPM changed during each quote",
        expected="a quote over the values just read",
        seen=f"other values in {QUOTE_ATTEMPTS} attempts",
        next="wait until the boot is complete",
    )


def _find_key(exchange: Exchange) -> tuple[AkIndices, bytes]:
    """The provisioned attestation key and its certificate; ECC before RSA."""
    for indices in (ECC_AK, RSA_AK):
        certificate = _read(exchange, indices.certificate)
        if certificate is not None:
            return indices, certificate
    raise _not_provisioned("attestation key certificate", ECC_AK.certificate)


def _read(exchange: Exchange, index: int) -> bytes | None:
    """The content of an NV index, None if it does not exist."""
    try:
        return nv_read_all(exchange, index)
    except TpmRefusedError as error:
        if not error.is_(ResponseCode.HANDLE):
            raise
        return None


def _not_provisioned(what: str, index: int) -> UnavailableError:
    return UnavailableError(
        "tpm-not-provisioned",
        f"the TPM has no {what}",
        expected=f"NV index {index:#010x}",
        seen="no such index",
        next="start the machine with `confide run`",
    )
