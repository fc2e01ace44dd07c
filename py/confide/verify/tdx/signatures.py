"""Who signed the quote, step by step from the platform's key down, and who signed what about it.

Rules that hold when every check passes:
- The PCK signed the quoting enclave's report, that report binds the attestation key, and the
  attestation key signed header and TD report.
- The enclave is Intel's TD quoting enclave, and not a debug one.
- TCB info and QE identity are signed by Intel, byte by byte, current, and for this platform.

Source: Intel TDX DCAP Quoting Library API, appendix A.3; the steps 4.1.2.4.9 to 4.1.2.4.16 and
4.1.2.9 that Intel's Quote Verification Library is annotated with.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from confide.vendors.intel.collateral import QeIdentity, TcbInfo, TdxCollateral
from confide.vendors.intel.pck import PckExtension
from confide.vendors.intel.quote import QeReport, Quote
from confide.verify.claims import Bits, Equals
from confide.verify.tdx.chain import Certificates
from confide.verify.tdx.tcb import module_identity
from confide.verify.verdict import Check, check_equal
from confide.verify.x509 import utc

_SGX_ATTRIBUTE_DEBUG = 1 << 1
_ZERO32 = bytes(32)


def check_quote(quote: Quote, certificates: Certificates) -> list[Check]:
    """The three signatures that lead from the PCK to the TD report."""
    bound = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest() + _ZERO32
    return [
        check_signature(
            "QE report signature",
            certificates.pck_key,
            quote.qe_signature,
            quote.qe_report_bytes,
        ),
        check_equal(
            "QE report: attestation key", bound, quote.qe_report.report_data, "attestation key"
        ),
        check_signature(
            "quote signature", _point(quote.attestation_key), quote.signature, quote.signed
        ),
    ]


def check_qe(report: QeReport, identity: QeIdentity) -> list[Check]:
    """Whether the quoting enclave is the one that Intel describes."""
    source = "QE identity"
    return [
        check_equal(
            "QE report: MISCSELECT",
            identity.miscselect,
            _masked(report.miscselect, identity.miscselect_mask),
            source,
        ),
        check_equal(
            "QE report: ATTRIBUTES",
            identity.attributes,
            _masked(report.attributes, identity.attributes_mask),
            source,
        ),
        Bits("QE report: DEBUG", _SGX_ATTRIBUTE_DEBUG, 0, "this verifier").check(
            int.from_bytes(report.attributes, "little")
        ),
        check_equal("QE report: MRSIGNER", identity.mrsigner, report.mrsigner, source),
        Equals("QE report: ISVPRODID", identity.isv_prod_id, source).check(report.isv_prod_id),
    ]


def check_documents(
    collateral: TdxCollateral,
    certificates: Certificates,
    info: TcbInfo,
    identity: QeIdentity,
    now: int,
) -> list[Check]:
    """Whether Intel signed TCB info and QE identity, and both are current at `now`."""
    return [
        check_signature(
            "TCB info: signature",
            certificates.tcb_info_key,
            collateral.tcb_info_signature,
            collateral.tcb_info,
        ),
        _check_current("TCB info: time", info.issue_date, info.next_update, now),
        check_signature(
            "QE identity: signature",
            certificates.qe_identity_key,
            collateral.qe_identity_signature,
            collateral.qe_identity,
        ),
        _check_current("QE identity: time", identity.issue_date, identity.next_update, now),
    ]


def check_tcb_info(quote: Quote, pck: PckExtension, info: TcbInfo) -> list[Check]:
    """Whether TCB info is about this kind of platform, and knows who signed its TDX module."""
    report = quote.report
    module = module_identity(info, report.tee_tcb_svn)
    checks = [
        check_equal("TCB info: FMSPC", pck.fmspc, info.fmspc, "PCK certificate"),
        check_equal("TCB info: PCE-ID", pck.pce_id, info.pce_id, "PCK certificate"),
    ]
    if module is None:
        version = f"no module of version {report.tee_tcb_svn[1]}"
        return [*checks, Check("TDX module", "one that TCB info knows", version, False, "TCB info")]
    return [
        *checks,
        check_equal("TDX module: MRSIGNERSEAM", module.mrsigner, report.mrsignerseam, "TCB info"),
        check_equal(
            "TDX module: SEAMATTRIBUTES",
            module.attributes,
            _masked(report.seam_attributes, module.attributes_mask),
            "TCB info",
        ),
        check_equal(
            "TDX module: SEAMATTRIBUTES are zero", bytes(8), report.seam_attributes, "this verifier"
        ),
    ]


def check_signature(
    name: str, key: ec.EllipticCurvePublicKey | None, signature: bytes, data: bytes
) -> Check:
    """ECDSA with P-256 and SHA-256; `signature` is r ‖ s. A key of None is not on the curve."""
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    try:
        if key is None:
            raise InvalidSignature
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return Check(name, "valid", "not valid", False, "signer's key")
    return Check(name, "valid", "valid", True, "signer's key")


def _point(key: bytes) -> ec.EllipticCurvePublicKey | None:
    """The P-256 key with the coordinates x ‖ y; None if that is not a point of the curve."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + key)
    except ValueError:
        return None


def _check_current(name: str, issued: int, next_update: int, now: int) -> Check:
    return Check(
        name,
        f"a time from {utc(issued)} to {utc(next_update)}",
        utc(now),
        issued <= now <= next_update,
        "signed document",
    )


def _masked(value: bytes, mask: bytes) -> bytes:
    return bytes(a & b for a, b in zip(value, mask, strict=True))
