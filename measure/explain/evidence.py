"""What a machine gave: recognises it by its first bytes, and takes out what can be compared.

Nothing here is verified: no signature, no certificate. To explain a difference that is not needed;
to trust a machine it is, and verification is another program's work.

Sources: "SEV Secure Nested Paging Firmware ABI" (AMD 56860), table "ATTESTATION_REPORT"; "Intel TDX
DCAP Quoting Library API", appendix A.3; "Intel TDX Module Architecture Specification", TDREPORT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from measure import eventlog
from measure.errors import FormatError, InputError, NotEventLogError
from measure.eventlog import EventLog
from measure.reader import Reader
from measure.snp import cpu

MAX_EVIDENCE = 8 << 20

_SNP_REPORT_SIZE = 1184
_SNP_VERSIONS = range(2, 6)
_SNP_CPUID_SINCE = 3  # the report's version that has family, model and stepping
_TDREPORT_SIZE, _TDREPORT_INFO = 1024, 512
_TDX_TEE_TYPE = 0x81
_QUOTE_V4_BODY, _QUOTE_V5_BODY = 48, 54
_TDX_BODY_TYPES = (2, 3)  # TD report of TDX 1.0 and 1.5
_MAP_HEADS = range(0xA0, 0xC0)  # CBOR major type 5


@dataclass(frozen=True)
class VtpmEvidence:
    """A TPM's log, its quoted registers (SHA-256 bank, 32 bytes each), or both."""

    log: EventLog | None
    pcrs: Mapping[int, bytes] | None


@dataclass(frozen=True)
class SnpEvidence:
    """The launch digest (48 bytes), the processor's CPUID signature if the report has it, and
    HOST_DATA (32 bytes), None if it is not known.
    """

    measurement: bytes
    signature: int | None
    host_data: bytes | None = None


@dataclass(frozen=True)
class TdxEvidence:
    """A confidential-computing log, what a quote or TDREPORT says, or both.

    Attributes:
        mrtd: 48 bytes.
        rtmrs: register 0 to 3 -> 48 bytes.
        attributes, xfam: 64 bits each.
        mrconfigid: 48 bytes.
    """

    log: EventLog | None
    mrtd: bytes | None
    rtmrs: Mapping[int, bytes] | None
    attributes: int | None
    xfam: int | None
    mrconfigid: bytes | None = None


Evidence: TypeAlias = VtpmEvidence | SnpEvidence | TdxEvidence


def parse(data: bytes, file: str) -> Evidence:
    """Recognises and parses evidence.

    That is: an event log (TPM or confidential computing), an SEV-SNP report, a TDX quote or
    TDREPORT, or this project's map {platform, report, endorsements, event_log, gpus}.

    Raises:
        FormatError: none of these, or a damaged one.
    """
    if len(data) > MAX_EVIDENCE:
        raise FormatError(
            "too large for evidence",
            file=file,
            expected=f"at most {MAX_EVIDENCE} bytes",
            seen=f"{len(data)} bytes",
        )
    if data[:1] and data[0] in _MAP_HEADS:
        return _map(data, file)
    report = _report(data, file)
    if report is not None:
        return report
    try:
        log = eventlog.parse(data, file)
    except NotEventLogError as error:
        raise FormatError(
            "the file is not evidence of a known kind",
            file=file,
            expected="an event log, an SEV-SNP report, a TDX quote or TDREPORT, or CBOR",
            seen=error.seen,
        ) from None
    if log.is_ccel:
        return TdxEvidence(log, None, None, None, None)
    return VtpmEvidence(log, None)


def with_log(seen: Evidence, data: bytes, file: str) -> Evidence:
    """The same with the event log that belongs to it.

    Raises:
        FormatError: not a log, or not of this platform.
        InputError: evidence that has a log already, or of a platform that has none.
    """
    if isinstance(seen, SnpEvidence) or seen.log is not None:
        raise InputError("this evidence takes no event log", file=file)
    return replace(seen, log=_log(data, file, ccel=isinstance(seen, TdxEvidence)))


def _log(data: bytes, file: str, *, ccel: bool) -> EventLog:
    log = eventlog.parse(data, file)
    if ccel != log.is_ccel:
        kinds = ("a TPM's event log", "a confidential-computing event log")
        raise FormatError(
            "the event log is of another platform",
            file=file,
            expected=kinds[ccel],
            seen=kinds[not ccel],
        )
    return log


def _report(data: bytes, file: str) -> SnpEvidence | TdxEvidence | None:
    """A processor's report, or None if it does not look like one."""
    if len(data) == _SNP_REPORT_SIZE and int.from_bytes(data[:4], "little") in _SNP_VERSIONS:
        return _snp(data, file)
    if len(data) == _TDREPORT_SIZE and data[0] == _TDX_TEE_TYPE:
        return _tdinfo(Reader(data, file, _TDREPORT_INFO))
    if data[:2] in (b"\4\0", b"\5\0") and data[4:8] == _TDX_TEE_TYPE.to_bytes(4, "little"):
        return _quote(data, file)
    return None


def _map(data: bytes, file: str) -> Evidence:
    fields = _fields(_decode(data, file), file)
    platform, report, raw_log = (fields.get(n) for n in ("platform", "report", "event_log"))
    if not isinstance(report, bytes) or not isinstance(raw_log, bytes):
        raise FormatError(
            "not an evidence map",
            file=file,
            expected="platform, report, endorsements, event_log, gpus",
            seen=", ".join(sorted(fields))[:100],
        )
    inner, log_file = f"{file} (report)", f"{file} (event_log)"
    log = _log(raw_log, log_file, ccel=platform == "tdx") if raw_log else None
    if platform == "vtpm":
        return VtpmEvidence(log, _pcrs(report, inner))
    parsed = _report(report, inner)
    if platform == "sev-snp" and isinstance(parsed, SnpEvidence):
        return parsed
    if platform == "tdx" and isinstance(parsed, TdxEvidence):
        return replace(parsed, log=log)
    raise FormatError(
        "the report does not fit the evidence's platform",
        file=file,
        expected="vtpm, sev-snp or tdx, and that platform's report",
        seen=repr(platform)[:40],
    )


def _fields(value: Any, file: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise FormatError("not a map with text keys", file=file, expected="an evidence map")
    return value


def _decode(data: bytes, file: str) -> Any:
    # The other kinds of evidence need the standard library only.
    from measure import cbor

    return cbor.decode(data, file)


def _pcrs(report: bytes, file: str) -> dict[int, bytes]:
    """The `pcrs` of a vTPM's report: a map from decimal text to 32 bytes."""
    pcrs = _fields(_fields(_decode(report, file), file).get("pcrs"), file)
    numbers = {str(number) for number in range(eventlog.MAX_PCR + 1)}
    for name, value in pcrs.items():
        if name not in numbers or not _is_digest(value):
            raise FormatError(
                "invalid register in the report",
                file=file,
                expected=f"0 to {eventlog.MAX_PCR}, and 32 bytes",
                seen=repr((name, value))[:100],
            )
    return {int(name): value for name, value in pcrs.items()}


def _is_digest(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) == 32


def _snp(data: bytes, file: str) -> SnpEvidence:
    reader = Reader(data, file, 0x90)
    measurement, host_data = reader.take(48, "measurement"), reader.take(32, "HOST_DATA")
    signature = None
    if data[0] >= _SNP_CPUID_SINCE:
        family, model, stepping = Reader(data, file, 0x188).take(3, "processor")
        signature = cpu.signature(family, model, stepping & 15)
    return SnpEvidence(measurement, signature, host_data)


def _quote(data: bytes, file: str) -> TdxEvidence:
    start = _QUOTE_V4_BODY
    if data[0] == 5:
        start = _QUOTE_V5_BODY
        body_type = Reader(data, file, min(48, len(data))).u16("body type")
        if body_type not in _TDX_BODY_TYPES:
            raise FormatError(
                "the quote is not of a TDX machine",
                file=file,
                offset=48,
                expected="body type 2 or 3",
                seen=str(body_type),
            )
    # TEE_TCB_SVN, MRSEAM, MRSIGNERSEAM and SEAMATTRIBUTES come first.
    return _tdinfo(Reader(data, file, min(start + 16 + 48 + 48 + 8, len(data))))


def _tdinfo(reader: Reader) -> TdxEvidence:
    attributes, xfam = reader.u64("attributes"), reader.u64("XFAM")
    mrtd = reader.take(48, "MRTD")
    mrconfigid = reader.take(48, "MRCONFIGID")
    reader.skip(2 * 48, "MROWNER, MROWNERCONFIG")
    rtmrs = {number: reader.take(48, f"RTMR {number}") for number in range(eventlog.RTMRS)}
    return TdxEvidence(None, mrtd, rtmrs, attributes, xfam, mrconfigid)
