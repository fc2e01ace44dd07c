"""A machine's own evidence, read and not verified: a vTPM's, an SEV-SNP or a TDX machine's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from confide.encoding.x509 import load_certificate
from confide.errors import FormatError
from confide.protocol.evidence import Evidence, VtpmReport
from confide.vendors.amd.certificates import EndorsementKey
from confide.vendors.amd.report import Report
from confide.vendors.intel.pck import PckExtension
from confide.vendors.intel.quote import Quote as TdxQuote
from confide.vendors.tpm.structures import EcdsaSignature, RsassaSignature, parse_signature
from confide.vendors.tpm.structures import Quote as TpmQuote
from confide.verify.attestation_key import attestation_key
from measure import eventlog
from measure.errors import MeasureError
from measure.eventlog import EventLog

_From = TypeVar("_From")
_To = TypeVar("_To")

SNP_CERTIFICATES = ("endorsement key", "intermediate", "root")
"""The places of an SEV-SNP machine's certificates, leaf first."""


@dataclass(frozen=True)
class VtpmEvidence:
    """A TPM's quote.

    Attributes:
        report: quote and signature as the TPM marshalled them, and the quoted registers.
        quote: what `report.quote` says.
        signature: what `report.signature` holds.
        chain: the attestation key's certificate and its issuers, leaf first; at least one.
        key: the public key of the first certificate.
        event_log: the firmware's log, or why it cannot be read.
    """

    report: VtpmReport
    quote: TpmQuote
    signature: EcdsaSignature | RsassaSignature
    chain: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey
    event_log: EventLog | MeasureError

    @classmethod
    def parse(cls, evidence: Evidence) -> VtpmEvidence:
        """Reads evidence of platform "vtpm".

        Raises:
            FormatError: a part other than the event log is malformed, or no certificate came.
        """
        report = VtpmReport.parse(evidence.report)
        quote = TpmQuote.parse(report.quote)
        signature = parse_signature(report.signature)
        if not evidence.endorsements:
            raise FormatError(
                "bad-endorsements",
                "the vTPM's evidence has no certificate of its attestation key",
                expected="certificates of the attestation key and its issuers",
                seen="none",
            )
        chain = tuple(load_certificate(der, "attestation key") for der in evidence.endorsements)
        key = attestation_key(chain[0])
        return cls(report, quote, signature, chain, key, _event_log(evidence.event_log))


@dataclass(frozen=True)
class SnpEvidence:
    """An SEV-SNP report.

    Attributes:
        report: the firmware's report.
        endorsement_key: the certificate that came first with the report, None if none came.
        issuers: those that came after it: the intermediate, then the root; at most two.
        event_log_size: bytes of an event log, which SEV-SNP evidence should not have.
    """

    report: Report
    endorsement_key: EndorsementKey | None
    issuers: tuple[x509.Certificate, ...]
    event_log_size: int

    @classmethod
    def parse(cls, evidence: Evidence) -> SnpEvidence:
        """Reads evidence of platform "sev-snp".

        Raises:
            FormatError: the report or a certificate is malformed, there are too many certificates,
                or neither says what processor it is.
        """
        report = Report.parse(evidence.report)
        ders = evidence.endorsements
        if len(ders) > len(SNP_CERTIFICATES):
            raise FormatError(
                "bad-endorsements",
                "the evidence has too many certificates",
                expected=f"at most {len(SNP_CERTIFICATES)}",
                seen=f"{len(ders)}",
            )
        if not ders and report.product is None:
            raise FormatError(
                "no-endorsement-key",
                "the report does not name its processor, and no certificate came with it",
                expected="a report of version 3 or later, or the endorsement key's certificate",
                seen=f"a report of version {report.version}",
            )
        key = EndorsementKey.parse(ders[0]) if ders else None
        issuers = tuple(map(load_certificate, ders[1:], SNP_CERTIFICATES[1:]))
        return cls(report, key, issuers, len(evidence.event_log))


@dataclass(frozen=True)
class PckChain:
    """The certificates in a quote: the platform's PCK first, the root last; at most three.

    `ders` are their bytes, `pck` is what the first one says of the platform.
    """

    ders: tuple[bytes, ...]
    certificates: tuple[x509.Certificate, ...]
    pck: PckExtension

    @classmethod
    def parse(cls, ders: tuple[bytes, ...]) -> PckChain:
        """Reads the certificates (DER).

        Raises:
            FormatError: one of them is malformed, or the first one is not of a PCK.
        """
        chain = tuple(load_certificate(der, "PCK") for der in ders)
        return cls(ders, chain, PckExtension.read(chain[0]))


@dataclass(frozen=True)
class TdxEvidence:
    """A TDX quote.

    Attributes:
        quote: the quote.
        pck_chain: its certificates, or why they cannot be read.
        certificate_count: certificates beside the quote, which TDX evidence should not have.
        event_log: the firmware's CCEL, or why it cannot be read.
    """

    quote: TdxQuote
    pck_chain: PckChain | FormatError
    certificate_count: int
    event_log: EventLog | MeasureError

    @classmethod
    def parse(cls, evidence: Evidence) -> TdxEvidence:
        """Reads evidence of platform "tdx".

        Raises:
            FormatError: the quote is malformed.
        """
        quote = TdxQuote.parse(evidence.report)
        return cls(
            quote=quote,
            pck_chain=read(PckChain.parse, quote.pck_chain),
            certificate_count=len(evidence.endorsements),
            event_log=_event_log(evidence.event_log),
        )


Machine = VtpmEvidence | SnpEvidence | TdxEvidence


def read(parse: Callable[[_From], _To], value: _From) -> _To | FormatError:
    """What `parse` makes of the value, or the error that it raises."""
    try:
        return parse(value)
    except FormatError as error:
        return error


def _event_log(data: bytes) -> EventLog | MeasureError:
    try:
        return eventlog.parse(data)
    except MeasureError as error:
        return error
