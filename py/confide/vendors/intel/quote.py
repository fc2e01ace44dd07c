"""TDX quotes, version 4 and 5, as Intel's quoting enclave writes them. All numbers little-endian.

A quote ends where its own lengths say. Bytes after that are legal (callers hand over a buffer of
fixed size): they are counted and never read.

Source: Intel TDX DCAP Quoting Library API, revision 0.9, appendix A.3 (version 4) and A.4 (version
5); Intel SGX Developer Reference, "Enclave Report" (the quoting enclave's report).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from confide.encoding.pem import read_chain
from confide.encoding.reader import Reader
from confide.errors import FormatError

MAX_QUOTE = 1 << 16
PCK_CHAIN_LENGTH = 3
MEASUREMENT_SIZE = 48
RTMRS = 4

ATTESTATION_KEY_P256 = 2
TEE_TDX = 0x81
QE_VENDOR_INTEL = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")

BODY_TD_10 = 2
BODY_TD_15 = 3
CERTIFICATION_PCK_CHAIN = 5
CERTIFICATION_QE_REPORT = 6

TD_REPORT_10 = 584
TD_REPORT_15 = 648
_SIGNATURE = 64


@dataclass(frozen=True)
class TdReport:
    """What the TDX module says of the machine: 584 bytes (TD report 1.0) or 648 bytes (1.5).

    Measurements (`mr...`, `rtmrs`) are SHA-384 values or identities of 48 bytes, security version
    numbers 16 bytes, `seam_attributes` 8 bytes, `report_data` 64 bytes. The last two are those of
    report 1.5: the versions of the TDX module that runs now, and the service TD bound to this one.
    """

    tee_tcb_svn: bytes
    mrseam: bytes
    mrsignerseam: bytes
    seam_attributes: bytes
    attributes: int
    xfam: int
    mrtd: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn2: bytes | None = None
    mrservicetd: bytes | None = None

    @property
    def registers(self) -> dict[str, bytes]:
        """The five measurements by name: MRTD, RTMR0 to RTMR3."""
        return name_registers(self.mrtd, self.rtmrs)

    @classmethod
    def parse(cls, data: bytes) -> TdReport:
        """Reads 584 bytes (TD report 1.0) or 648 bytes (1.5): the caller has checked which."""
        reader = Reader(data, _bad)

        def measurement() -> bytes:
            return reader.take(MEASUREMENT_SIZE, "the TD report")

        return cls(
            tee_tcb_svn=reader.take(16, "the TD report"),
            mrseam=measurement(),
            mrsignerseam=measurement(),
            seam_attributes=reader.take(8, "the TD report"),
            attributes=reader.number(8, "the TD report"),
            xfam=reader.number(8, "the TD report"),
            mrtd=measurement(),
            mrconfigid=measurement(),
            mrowner=measurement(),
            mrownerconfig=measurement(),
            rtmrs=(measurement(), measurement(), measurement(), measurement()),
            report_data=reader.take(64, "the TD report"),
            tee_tcb_svn2=reader.take(16, "the TD report") if reader.left else None,
            mrservicetd=measurement() if reader.left else None,
        )


@dataclass(frozen=True)
class QeReport:
    """The quoting enclave's own SGX report (384 bytes); reserved fields are not kept."""

    SIZE: ClassVar[int] = 384

    cpu_svn: bytes
    miscselect: bytes
    attributes: bytes
    mrenclave: bytes
    mrsigner: bytes
    isv_prod_id: int
    isv_svn: int
    report_data: bytes

    @classmethod
    def parse(cls, data: bytes) -> QeReport:
        """Reads 384 bytes: the caller has checked that there are as many."""
        reader, what = Reader(data, _bad), "the QE report"
        cpu_svn, miscselect = reader.take(16, what), reader.take(4, what)
        reader.take(28, what)  # reserved, as are the 32, 96 and 60 bytes below
        attributes, mrenclave = reader.take(16, what), reader.take(32, what)
        reader.take(32, what)
        mrsigner = reader.take(32, what)
        reader.take(96, what)
        isv_prod_id, isv_svn = reader.number(2, what), reader.number(2, what)
        reader.take(60, what)
        return cls(
            cpu_svn=cpu_svn,
            miscselect=miscselect,
            attributes=attributes,
            mrenclave=mrenclave,
            mrsigner=mrsigner,
            isv_prod_id=isv_prod_id,
            isv_svn=isv_svn,
            report_data=reader.take(64, what),
        )


@dataclass(frozen=True)
class Quote:
    """A parsed quote. Signatures are r ‖ s (64 bytes), the key is x ‖ y (64 bytes), all on P-256.

    `signed` is what `signature` is over; `qe_report_bytes` (384 bytes) is what `qe_signature` is
    over; `pck_chain` is DER, leaf first, root last; `trailing` counts the bytes after the end.
    """

    version: int
    report: TdReport
    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report_bytes: bytes
    qe_signature: bytes
    qe_auth_data: bytes
    pck_chain: tuple[bytes, ...]
    trailing: int

    @property
    def qe_report(self) -> QeReport:
        """The quoting enclave's report, parsed."""
        return QeReport.parse(self.qe_report_bytes)

    @classmethod
    def parse(cls, data: bytes) -> Quote:
        """Raises FormatError unless this is one TDX quote that carries its PCK chain."""
        if len(data) > MAX_QUOTE:
            raise _bad("it is too large", f"at most {MAX_QUOTE} bytes", f"{len(data)} bytes")
        reader = Reader(data, _bad)
        version = _read_header(reader)
        report = TdReport.parse(reader.take(_body_size(reader, version), "the TD report"))
        signed = data[: reader.offset]
        size = reader.number(4, "the length of the signature data")
        fields = reader.inner(size, "the signature data")
        signature = fields.take(_SIGNATURE, "the signature")
        key = fields.take(_SIGNATURE, "the attestation key")
        certification = _certification(fields, CERTIFICATION_QE_REPORT, "certification data")
        qe_report = certification.take(QeReport.SIZE, "the QE report")
        qe_signature = certification.take(_SIGNATURE, "the QE report's signature")
        auth_size = certification.number(2, "the length of the QE authentication data")
        auth_data = certification.take(auth_size, "the QE authentication data")
        chain = _certification(certification, CERTIFICATION_PCK_CHAIN, "QE certification data")
        return cls(
            version=version,
            report=report,
            signed=signed,
            signature=signature,
            attestation_key=key,
            qe_report_bytes=qe_report,
            qe_signature=qe_signature,
            qe_auth_data=auth_data,
            pck_chain=read_chain(
                chain.rest(), "PCK certificate chain", max_certificates=PCK_CHAIN_LENGTH
            ),
            trailing=reader.left,
        )


def name_registers(mrtd: bytes, rtmrs: tuple[bytes, ...]) -> dict[str, bytes]:
    """Measurements by the names that people know: MRTD, RTMR0 to RTMR3."""
    return {"MRTD": mrtd} | {f"RTMR{number}": value for number, value in enumerate(rtmrs)}


def _read_header(reader: Reader) -> int:
    """The version, from a header (48 bytes) of a TDX quote; the last 20 bytes are free to use."""
    what = "the header"
    version, key_type, tee = (reader.number(size, what) for size in (2, 2, 4))
    if tee == 0:
        raise FormatError(
            "bad-quote",
            "this is the quote of an SGX enclave, not of a TDX machine",
            expected="a TDX quote",
            seen="an SGX quote",
        )
    _require("version", (4, 5), version)
    _require("attestation key type", (ATTESTATION_KEY_P256,), key_type)
    _require("TEE type", (TEE_TDX,), tee)
    reader.take(4, what)
    vendor = reader.take(16, what)
    if vendor != QE_VENDOR_INTEL:
        raise _bad("its QE vendor is not Intel", QE_VENDOR_INTEL.hex(), vendor.hex())
    reader.take(20, what)
    return version


def _body_size(reader: Reader, version: int) -> int:
    """Version 4 has only one kind of body; version 5 names kind and size in front of it."""
    if version == 4:
        return TD_REPORT_10
    kind, size = reader.number(2, "the body's type"), reader.number(4, "the body's size")
    sizes = {BODY_TD_10: TD_REPORT_10, BODY_TD_15: TD_REPORT_15}
    _require("body type", tuple(sizes), kind)
    _require("body size", (sizes[kind],), size)
    return sizes[kind]


def _certification(reader: Reader, kind: int, what: str) -> Reader:
    """The one certification data of type `kind` that fills what is left of `reader` exactly."""
    seen, size = reader.number(2, f"the {what}"), reader.number(4, f"the {what}")
    _require(f"{what} type", (kind,), seen)
    inside = reader.inner(size, f"the {what}")
    if reader.left:
        raise _bad(f"bytes follow after the {what}", "no more bytes", f"{reader.left} bytes")
    return inside


def _require(what: str, legal: tuple[int, ...], seen: int) -> None:
    if seen not in legal:
        raise _bad(f"the {what} is not supported", " or ".join(map(str, legal)), str(seen))


def _bad(problem: str, expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-quote", f"the TDX quote is malformed: {problem}", expected=expected, seen=seen
    )
