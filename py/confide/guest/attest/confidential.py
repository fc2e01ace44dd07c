"""Attesters of confidential VMs: SEV-SNP and TDX."""

from __future__ import annotations

import ssl
from pathlib import Path

from confide.errors import FormatError
from confide.guest.attest.eventlog import read_event_log
from confide.guest.attest.tsm import (
    SNP_PROVIDER,
    TDX_PROVIDER,
    TsmReport,
    TsmReports,
    report_of,
)
from confide.protocol.evidence import Evidence
from confide.vendors.amd.certificates import (
    ARK_GUID,
    ASK_GUID,
    VCEK_GUID,
    VLEK_GUID,
    parse_certificate_table,
)
from confide.vendors.amd.report import Report, SigningKey

CCEL = Path("/sys/firmware/acpi/tables/data/CCEL")


class SnpAttester:
    """Makes SEV-SNP evidence, with the certificates that the host hands over, if any."""

    def __init__(self, reports: TsmReports) -> None:
        self._reports = reports

    def evidence(self, report_data: bytes) -> Evidence:
        """Evidence that binds these 64 bytes.

        Raises UnavailableError if the kernel gives no report, FormatError if the host's table of
        certificates is malformed.
        """
        report = report_of(self._reports, SNP_PROVIDER, report_data)
        endorsements = _endorsements(report)
        return Evidence("sev-snp", report.outblob, endorsements, b"")


class TdxAttester:
    """Makes TDX evidence: a quote, which carries its own certificates, and the firmware's log."""

    def __init__(self, reports: TsmReports, event_log: Path = CCEL) -> None:
        self._reports = reports
        self._event_log = event_log

    def evidence(self, report_data: bytes) -> Evidence:
        """Evidence that binds these 64 bytes. Raises UnavailableError."""
        report = report_of(self._reports, TDX_PROVIDER, report_data)
        return Evidence("tdx", report.outblob, (), read_event_log(self._event_log))


def _endorsements(report: TsmReport) -> tuple[bytes, ...]:
    """The chain in DER, leaf first, up to the first certificate that the host did not give."""
    table = parse_certificate_table(report.auxblob)
    signer = Report.parse(report.outblob).signing_key
    leaf = VLEK_GUID if signer is SigningKey.VLEK else VCEK_GUID
    chain = []
    for guid in (leaf, ASK_GUID, ARK_GUID):
        if not table.get(guid):
            break
        chain.append(_der(table[guid]))
    return tuple(chain)


def _der(certificate: bytes) -> bytes:
    """The certificate in DER: some hosts give PEM, though the table is for DER."""
    if not certificate.startswith(b"-----BEGIN"):
        return certificate
    try:
        return ssl.PEM_cert_to_DER_cert(certificate.decode("ascii").strip("\0 \r\n"))
    except ValueError as error:
        raise FormatError(
            "bad-snp-certificate",
            "a certificate from the host is malformed",
            expected="DER or PEM",
        ) from error
