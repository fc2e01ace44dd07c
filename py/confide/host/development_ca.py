"""The development CA: it certifies the TPMs that the runner makes. It protects nothing.

This module publishes its private key. Anybody can certify any key with it, so a manifest that names
this CA trusts the operator of the machine. That lets the whole system run on a laptop, with real
measured boot. Only a manifest of mode "development" may name it.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from confide.vendors.tpm.structures import AK_USAGE_OID

KEY_SEED = b"confide development CA: protects nothing"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
CA_NAME = "Confide development CA that protects nothing"
AK_LIFETIME = timedelta(days=30)
BACKDATE = timedelta(minutes=5)  # the verifier's clock may be slow
CA_START = datetime(2025, 1, 1, tzinfo=UTC)
CA_END = datetime(2045, 1, 1, tzinfo=UTC)


@cache
def development_ca_key() -> ec.EllipticCurvePrivateKey:
    """The published P-256 key: SHA-256 of KEY_SEED as a number, modulo the group order."""
    secret = int.from_bytes(hashlib.sha256(KEY_SEED).digest()) % P256_ORDER
    return ec.derive_private_key(secret, ec.SECP256R1())


def development_ca_spki_sha256() -> bytes:
    """SHA-256 of the CA's public key (SPKI DER), 32 bytes; a manifest names this."""
    spki = (
        development_ca_key()
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    return hashlib.sha256(spki).digest()


def development_ca_certificate() -> bytes:
    """The CA's self-signed certificate, DER."""
    name = _name(CA_NAME)
    key = development_ca_key()
    builder = (
        _builder(name, name, key.public_key(), CA_START, CA_END)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def issue_ak_certificate(public_key: ec.EllipticCurvePublicKey, now: datetime) -> bytes:
    """A certificate (DER, under 1 KiB) for a TPM's attestation key."""
    builder = (
        _builder(
            _name("Confide development TPM attestation key"),
            _name(CA_NAME),
            public_key,
            now - BACKDATE,
            now + AK_LIFETIME,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(AK_USAGE_OID)]), critical=False)
    )
    return builder.sign(development_ca_key(), hashes.SHA256()).public_bytes(Encoding.DER)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
