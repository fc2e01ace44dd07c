"""The development CA: everybody has the same one, and it says what it is."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from confide.host import development_ca as cloud

NOW = datetime(2027, 1, 15, tzinfo=UTC)


def test_public_key_is_the_one_that_manifests_name() -> None:
    expected = "e3d675c6aa5efa4383b7a331947beb72de20b188e13468899e9ea50e2a9d9cc0"
    assert cloud.development_ca_spki_sha256().hex() == expected


def test_certificate_says_that_it_protects_nothing() -> None:
    certificate = x509.load_der_x509_certificate(cloud.development_ca_certificate())
    assert "protects nothing" in certificate.subject.rfc4514_string()
    assert "development" in certificate.subject.rfc4514_string()


def test_attestation_key_certificate_fits_the_nv_index() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    der = cloud.issue_ak_certificate(key.public_key(), NOW)
    assert len(der) <= 1024
    certificate = x509.load_der_x509_certificate(der)
    assert certificate.not_valid_before_utc < NOW < certificate.not_valid_after_utc
