"""SIMULATED vTPMs of a cloud: their keys have certificates up to a root that tests pin."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from confide.protocol.evidence import Evidence, VtpmReport
from confide.protocol.policy.vtpm import InsecureCloud
from confide.verify import attestation_key
from confide.verify.attestation_key import GOOGLE_INSTANCE_OID
from confide.verify.roots import Root
from confide.verify.x509 import spki_sha256
from tests.support.fake_tpm import NOW, FakeTpm

CLOUD = InsecureCloud("google")
START = datetime.fromtimestamp(NOW, UTC) - timedelta(days=1)
KEYS = {name: rsa.generate_private_key(65537, 2048) for name in ("root", "upper", "ca", "ak")}


def issue(name: str, issuer: str, *, ca: bool = True, **changes: Any) -> x509.Certificate:
    """A certificate for KEYS[name] by KEYS[issuer], as the cloud's are."""
    key = KEYS[name].public_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"SIMULATED {name}")])
    signer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"SIMULATED {issuer}")])
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer)
        .public_key(key)
        .serial_number(1)
        .not_valid_before(START)
        .not_valid_after(changes.get("end", START + timedelta(days=3650)))
        .add_extension(
            x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **usage),
            critical=True,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(KEYS[issuer].public_key()),
            critical=False,
        )
    )
    if ca:
        length = changes.get("path_length")
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=length), True)
    if "critical" in changes:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.25.1"), b"\5\0")
        builder = builder.add_extension(unknown, critical=changes["critical"])
    if "issuer_at" in changes:
        at = x509.UniformResourceIdentifier(changes["issuer_at"])
        where = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, at)
        builder = builder.add_extension(x509.AuthorityInformationAccess([where]), critical=False)
    if not ca and changes.get("instance", True):
        instance = x509.ObjectIdentifier(GOOGLE_INSTANCE_OID)
        builder = builder.add_extension(x509.UnrecognizedExtension(instance, b"\x30\0"), False)
    return builder.sign(KEYS[issuer], hashes.SHA256())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


ROOT, CA, AK = issue("root", "root"), issue("ca", "root"), issue("ak", "ca", ca=False)


class CloudTpm(FakeTpm):
    """A TPM whose attestation key is RSA, and whose issuers are not in it."""

    def sign(self, quote: bytes) -> bytes:
        value = KEYS["ak"].sign(quote, padding.PKCS1v15(), hashes.SHA256())
        return b"\0\x14\0\x0b" + len(value).to_bytes(2) + value

    def evidence(self, report: VtpmReport | None = None) -> Evidence:
        return dataclasses.replace(super().evidence(report), endorsements=(der(AK),))


def pin_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put this root in the place of the cloud's."""
    root = Root("SIMULATED", "vTPM", spki_sha256(ROOT))
    monkeypatch.setattr(attestation_key, "GOOGLE_TPM_ROOT", root)
