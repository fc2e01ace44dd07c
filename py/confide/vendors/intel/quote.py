"""TDX quotes, version 4 and 5, as Intel's quoting enclave writes them. All numbers little-endian.

A quote ends where its own lengths say. Bytes after that are legal (callers hand over a buffer of
fixed size): they are counted and never read.

Source: Intel TDX DCAP Quoting Library API, revision 0.9, appendix A.3 (version 4) and A.4 (version
5); Intel SGX Developer Reference, "Enclave Report" (the quoting enclave's report).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, ClassVar

from confide.encoding.pem import read_chain
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

_HEADER = struct.Struct("<HHI4x16s20x")
_BODY_DESCRIPTOR = struct.Struct("<HI")
_TD_10 = struct.Struct("<16s48s48s8sQQ48s48s48s48s48s48s48s48s64s")
_TD_15 = struct.Struct("<16s48s")
_SIGNATURE = struct.Struct("<64s64s")
_CERTIFICATION = struct.Struct("<HI")
_QE_REPORT = struct.Struct("<16s4s28x16s32s32x32s96xHH60x64s")
_QE_SIGNATURE = struct.Struct("<64sH")
_LENGTH = struct.Struct("<I")


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
        """`data` is 584 or 648 bytes: the caller has checked which."""
        values = _TD_10.unpack_from(data)
        newer = _TD_15.unpack_from(data, _TD_10.size) if len(data) > _TD_10.size else (None, None)
        svn, seam, seam_signer, seam_attributes, attributes, xfam = values[:6]
        mrtd, config_id, owner, owner_config, rtmr0, rtmr1, rtmr2, rtmr3, report_data = values[6:]
        return cls(
            tee_tcb_svn=svn,
            mrseam=seam,
            mrsignerseam=seam_signer,
            seam_attributes=seam_attributes,
            attributes=attributes,
            xfam=xfam,
            mrtd=mrtd,
            mrconfigid=config_id,
            mrowner=owner,
            mrownerconfig=owner_config,
            rtmrs=(rtmr0, rtmr1, rtmr2, rtmr3),
            report_data=report_data,
            tee_tcb_svn2=newer[0],
            mrservicetd=newer[1],
        )


@dataclass(frozen=True)
class QeReport:
    """The quoting enclave's own SGX report (384 bytes); reserved fields are not kept."""

    SIZE: ClassVar[int] = _QE_REPORT.size

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
        """`data` is 384 bytes."""
        return cls(*_QE_REPORT.unpack(data))


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
            raise _bad("a size", f"at most {MAX_QUOTE} bytes", f"{len(data)} bytes")
        reader = _Reader(data)
        version, key_type, tee, vendor = reader.unpack(_HEADER, "header")
        if tee == 0:
            raise _bad("a machine", "a TDX quote", "an SGX enclave's quote, which is not supported")
        _require("version", (4, 5), version)
        _require("attestation key type", (ATTESTATION_KEY_P256,), key_type)
        _require("TEE type", (TEE_TDX,), tee)
        if vendor != QE_VENDOR_INTEL:
            raise _bad("a QE vendor", QE_VENDOR_INTEL.hex(), vendor.hex())
        report = TdReport.parse(reader.take(_body_size(reader, version), "TD report"))
        signed = data[: reader.at]
        (size,) = reader.unpack(_LENGTH, "length of the signature data")
        fields = reader.within(size, "signature data")
        signature, key = fields.unpack(_SIGNATURE, "signature and attestation key")
        certification = _certification(fields, CERTIFICATION_QE_REPORT, "certification data")
        qe_report = certification.take(QeReport.SIZE, "QE report")
        qe_signature, auth_size = certification.unpack(_QE_SIGNATURE, "QE report signature")
        auth_data = certification.take(auth_size, "QE authentication data")
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
            trailing=len(data) - reader.at,
        )


def name_registers(mrtd: bytes, rtmrs: tuple[bytes, ...]) -> dict[str, bytes]:
    """Measurements by the names that people know: MRTD, RTMR0 to RTMR3."""
    return {"MRTD": mrtd} | {f"RTMR{number}": value for number, value in enumerate(rtmrs)}


class _Reader:
    """Reads `data[at:end]` from the front; every length is checked against what is left."""

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self._data = data
        self.at = at
        self._end = len(data) if end is None else end

    def take(self, size: int, what: str) -> bytes:
        left = self._end - self.at
        if size > left:
            raise _bad(f"a whole {what}", f"{size} bytes at offset {self.at}", f"{left} bytes")
        self.at += size
        return self._data[self.at - size : self.at]

    def unpack(self, layout: struct.Struct, what: str) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size, what))

    def within(self, size: int, what: str) -> _Reader:
        """A reader of the next `size` bytes, which this one skips."""
        self.take(size, what)
        return _Reader(self._data, self.at - size, self.at)

    def rest(self) -> bytes:
        return self.take(self._end - self.at, "rest")


def _body_size(reader: _Reader, version: int) -> int:
    """Version 4 has only one kind of body; version 5 names kind and size in front of it."""
    if version == 4:
        return _TD_10.size
    kind, size = reader.unpack(_BODY_DESCRIPTOR, "body descriptor")
    sizes = {BODY_TD_10: _TD_10.size, BODY_TD_15: _TD_10.size + _TD_15.size}
    _require("body type", tuple(sizes), kind)
    _require("body size", (sizes[kind],), size)
    return sizes[kind]


def _certification(reader: _Reader, kind: int, what: str) -> _Reader:
    """The one certification data of type `kind` that fills what is left of `reader` exactly."""
    seen, size = reader.unpack(_CERTIFICATION, what)
    _require(f"{what} type", (kind,), seen)
    inside = reader.within(size, what)
    if rest := reader.rest():
        raise _bad("an end", f"nothing after the {what}", f"{len(rest)} bytes")
    return inside


def _require(what: str, legal: tuple[int, ...], seen: int) -> None:
    if seen not in legal:
        raise _bad(f"a known {what}", " or ".join(map(str, legal)), str(seen))


def _bad(what: str, expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-quote", f"the TDX quote does not have {what}", expected=expected, seen=seen
    )
