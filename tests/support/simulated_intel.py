"""A simulated Intel: its certification authorities, its collateral, and a platform that quotes.

Nothing here comes from hardware. The keys are made when the object is, the names are Intel's (the
verifier asks for them), and the organisation says that it is simulated. Tests pin the simulated
root in place of Intel's and can then make every positive verdict, and each step of it wrong.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confide.encoding.pem import write_chain
from confide.protocol.policy.tdx import Masked, TdxPolicy, TdxReference
from confide.vendors.intel.collateral import TcbStatus, TdxCollateral
from confide.vendors.intel.quote import TdReport
from confide.verify.roots import Root
from confide.verify.x509 import spki_sha256
from tests.support.intel_certificates import (
    FMSPC,
    INSTANCE,
    SGX_OID,
    SVNS,
    Signer,
    issue,
    new_key,
    pck_extension,
    revocation_list,
    sign,
)

ISSUED = "2026-05-20T00:00:00Z"
NEXT_UPDATE = "2026-06-19T00:00:00Z"
SEPT_VE_DISABLE = 1 << 28
MRSIGNER = bytes(range(32))
BINDING = bytes(range(100, 132))  # SHA-256 of some manifest
PLATFORM_STATUSES = [
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
]
MEASURED = (b"\x30" * 48, b"\x31" * 48, b"\x32" * 48)  # one event in each of RTMR0 to RTMR2
RTMRS = [hashlib.sha384(bytes(48) + digest).digest() for digest in MEASURED]


def event_log(events: Sequence[tuple[int, bytes]]) -> bytes:
    """A CCEL (TCG PC Client PFP, section 10) of (RTMR, SHA-384 digest); it counts from 1."""
    spec = b"Spec ID Event03\0" + bytes(4) + b"\0\2\0\2" + b"\1\0\0\0" + b"\x0c\0\x30\0" + b"\0"
    log = struct.pack("<II20xI", 1, 3, len(spec)) + spec
    for rtmr, digest in events:
        log += (
            struct.pack("<IIIH", rtmr + 1, 0x0D, 1, 0x0C) + digest + struct.pack("<I", 4) + b"test"
        )
    return log


EVENT_LOG = event_log(list(enumerate(MEASURED)))
REPORT = TdReport(
    tee_tcb_svn=bytes([5, 1, 3] + [0] * 13),
    mrseam=b"\x11" * 48,
    mrsignerseam=bytes(48),
    seam_attributes=bytes(8),
    attributes=SEPT_VE_DISABLE,
    xfam=0x602E7,
    mrtd=b"\x22" * 48,
    mrconfigid=BINDING + bytes(16),
    mrowner=bytes(48),
    mrownerconfig=bytes(48),
    rtmrs=(RTMRS[0], RTMRS[1], RTMRS[2], bytes(48)),
    report_data=b"\x44" * 64,
)
REPORT_15 = replace(REPORT, tee_tcb_svn2=REPORT.tee_tcb_svn, mrservicetd=bytes(48))
REFERENCE = TdxReference("simulated", REPORT.mrtd, *REPORT.rtmrs)
POLICY = TdxPolicy(
    attributes=Masked(2**64 - 1, SEPT_VE_DISABLE),
    xfam=Masked(2**64 - 1, REPORT.xfam),
    mrseam=None,
    mrowners=(bytes(48),),
    mrownerconfigs=(bytes(48),),
    fmspcs=None,
    platform_instances=(INSTANCE,),
    tcb_statuses=(TcbStatus.UP_TO_DATE,),
    advisories=(),
    minimum_tcb_evaluation_data_number=17,
    opt_outs=frozenset(),
)


def level(
    status: str = "UpToDate",
    *,
    sgx: Sequence[int] = SVNS,
    tdx: Sequence[int] = (5, 0, 3),
    pce: int = 11,
    advisories: Sequence[str] = (),
) -> dict[str, Any]:
    """A level of TCB info; `tdx` is filled up with zeros to 16 components."""
    value = {
        "tcb": {
            "sgxtcbcomponents": [{"svn": svn} for svn in sgx],
            "pcesvn": pce,
            "tdxtcbcomponents": [{"svn": svn} for svn in [*tdx, *[0] * (16 - len(tdx))]],
        },
        "tcbDate": "2026-05-13T00:00:00Z",
        "tcbStatus": status,
    }
    return value | ({"advisoryIDs": list(advisories)} if advisories else {})


def software(svn: int, status: str = "UpToDate", advisories: Sequence[str] = ()) -> dict[str, Any]:
    """A level of a TDX module or of the quoting enclave."""
    value = {"tcb": {"isvsvn": svn}, "tcbDate": "2026-05-13T00:00:00Z", "tcbStatus": status}
    return value | ({"advisoryIDs": list(advisories)} if advisories else {})


def module(name: str, *levels: dict[str, Any], mrsigner: bytes = bytes(48)) -> dict[str, Any]:
    """The identity of a TDX module, or without a name the one of version 0."""
    value = {
        "mrsigner": mrsigner.hex().upper(),
        "attributes": "0" * 16,
        "attributesMask": "F" * 16,
    }
    return {"id": name, **value, "tcbLevels": list(levels)} if name else value


def tcb_info(*levels: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """TCB info with these levels, newest first (by default: one, up to date)."""
    return {
        "id": "TDX",
        "version": 3,
        "issueDate": ISSUED,
        "nextUpdate": NEXT_UPDATE,
        "fmspc": FMSPC.hex().upper(),
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": 18,
        "tdxModule": module(""),
        "tdxModuleIdentities": [module("TDX_01", software(5))],
        "tcbLevels": list(levels) or [level()],
    } | changes


def qe_identity(*levels: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The quoting enclave's identity with these levels (by default: 4 and above up to date)."""
    return {
        "id": "TD_QE",
        "version": 2,
        "issueDate": ISSUED,
        "nextUpdate": NEXT_UPDATE,
        "tcbEvaluationDataNumber": 18,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": MRSIGNER.hex().upper(),
        "isvprodid": 2,
        "tcbLevels": list(levels) or [software(4)],
    } | changes


@dataclass(frozen=True)
class QuotingEnclave:
    """What the simulated quoting enclave says of itself."""

    miscselect: bytes = bytes(4)
    attributes: bytes = bytes([0x15]) + bytes(7) + bytes([0xE7]) + bytes(7)
    mrsigner: bytes = MRSIGNER
    isv_prod_id: int = 2
    isv_svn: int = 6
    auth_data: bytes = bytes(range(32))
    bound: bytes | None = None  # report data, if not what binds the attestation key

    def report(self, key: bytes) -> bytes:
        """384 bytes that bind `key` (64 bytes)."""
        bound = self.bound or hashlib.sha256(key + self.auth_data).digest() + bytes(32)
        return struct.pack(
            "<16s4s28x16s32s32x32s96xHH60x64s",
            bytes(16),
            self.miscselect,
            self.attributes,
            b"\x55" * 32,
            self.mrsigner,
            self.isv_prod_id,
            self.isv_svn,
            bound,
        )


@dataclass
class SimulatedIntel:
    """One root, one platform CA, one platform and one signer of TCB info."""

    root: Signer = field(init=False)
    platform_ca: Signer = field(init=False)
    pck: Signer = field(init=False)
    tcb_signer: Signer = field(init=False)
    attestation_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: new_key())

    def __post_init__(self) -> None:
        self.root = issue("Intel SGX Root CA", None, ca=True)
        self.platform_ca = issue("Intel SGX PCK Platform CA", self.root, ca=True)
        self.pck = self.issue_pck()
        self.tcb_signer = issue("Intel SGX TCB Signing", self.root)

    @property
    def pinned(self) -> Root:
        """What the verifier is to pin in place of Intel's root."""
        return Root("simulated", "TDX", spki_sha256(self.root.certificate))

    @property
    def pck_chain(self) -> tuple[bytes, ...]:
        return (self.pck.der, self.platform_ca.der, self.root.der)

    @property
    def signing_chain(self) -> tuple[bytes, ...]:
        return (self.tcb_signer.der, self.root.der)

    def issue_pck(
        self, *, svns: Sequence[int] = SVNS, pce: int = 13, extension: bytes | None = None
    ) -> Signer:
        """A PCK certificate for a platform with these versions."""
        value = pck_extension(svns, pce) if extension is None else extension
        sgx = x509.UnrecognizedExtension(x509.ObjectIdentifier(SGX_OID), value)
        return issue("Intel SGX PCK Certificate", self.platform_ca, extensions=[sgx])

    def quote(
        self,
        report: TdReport = REPORT,
        *,
        qe: QuotingEnclave | None = None,
        chain: tuple[bytes, ...] | None = None,
        trailing: bytes = b"",
    ) -> bytes:
        """A quote of version 4 for a report 1.0, of version 5 for a report 1.5."""
        return (
            build_quote(
                report,
                attestation_key=self.attestation_key,
                pck_key=self.pck.key,
                chain=self.pck_chain if chain is None else chain,
                qe=qe or QuotingEnclave(),
            )
            + trailing
        )

    def collateral(
        self,
        info: Mapping[str, Any] | None = None,
        identity: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> TdxCollateral:
        """Signed collateral; `changes` replaces fields of the result."""
        info_bytes = compact(tcb_info() if info is None else info)
        identity_bytes = compact(qe_identity() if identity is None else identity)
        collateral = TdxCollateral(
            tcb_info=info_bytes,
            tcb_info_signature=self.tcb_signer.sign(info_bytes),
            tcb_info_chain=self.signing_chain,
            qe_identity=identity_bytes,
            qe_identity_signature=self.tcb_signer.sign(identity_bytes),
            qe_identity_chain=self.signing_chain,
            root_ca_crl=revocation_list(self.root),
            pck_crl=revocation_list(self.platform_ca),
        )
        return replace(collateral, **changes)


def build_quote(
    report: TdReport,
    *,
    attestation_key: ec.EllipticCurvePrivateKey,
    pck_key: ec.EllipticCurvePrivateKey,
    chain: tuple[bytes, ...],
    qe: QuotingEnclave,
) -> bytes:
    """Header, TD report, signatures and certificates."""
    newer = report.mrservicetd is not None
    body = encode_report(report)
    header = struct.pack(
        "<HHI4x16s20x",
        5 if newer else 4,
        2,
        0x81,
        bytes.fromhex("939a7233f79c4ca9940a0db3957f0607"),
    )
    descriptor = struct.pack("<HI", 3, len(body)) if newer else b""
    signed = header + descriptor + body
    point = attestation_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    qe_report = qe.report(point[1:])
    pem = write_chain(chain) + b"\0"
    certification = (
        qe_report
        + sign(pck_key, qe_report)
        + struct.pack("<H", len(qe.auth_data))
        + qe.auth_data
        + struct.pack("<HI", 5, len(pem))
        + pem
    )
    signature = sign(attestation_key, signed) + point[1:]
    signature += struct.pack("<HI", 6, len(certification)) + certification
    return signed + struct.pack("<I", len(signature)) + signature


def encode_report(report: TdReport) -> bytes:
    """584 or 648 bytes."""
    body = struct.pack(
        "<16s48s48s8sQQ48s48s48s48s192s64s",
        report.tee_tcb_svn,
        report.mrseam,
        report.mrsignerseam,
        report.seam_attributes,
        report.attributes,
        report.xfam,
        report.mrtd,
        report.mrconfigid,
        report.mrowner,
        report.mrownerconfig,
        b"".join(report.rtmrs),
        report.report_data,
    )
    return body + (report.tee_tcb_svn2 or b"") + (report.mrservicetd or b"")


def compact(value: Mapping[str, Any]) -> bytes:
    """JSON as Intel's service writes it: no white space."""
    return json.dumps(value, separators=(",", ":")).encode()
