"""What every chain of certificates needs: each rule, kept and broken. All keys are made here."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import SignatureAlgorithmOID

from confide.errors import FormatError
from confide.verify import x509 as chains
from confide.verify.x509 import (
    PSS_SHA384,
    SHA384,
    check_crl,
    check_validity,
    extension,
    is_ca,
    is_revoked,
    is_signed_by,
    load_crl,
    spki_sha256,
    subject,
    utc,
)
from tests.support.simulated_amd import (
    MADE,
    NOW,
    intermediate,
    make_authority,
    make_crl,
    name_of,
    revoked_entry,
    root,
    rsa_key,
)

PSS = SignatureAlgorithmOID.RSASSA_PSS
ECDSA_SHA256 = SignatureAlgorithmOID.ECDSA_WITH_SHA256
Hash = hashes.SHA256 | hashes.SHA384 | hashes.SHA512


def builder(issuer: x509.Name) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name_of("leaf"))
        .issuer_name(issuer)
        .serial_number(5)
        .not_valid_before(MADE)
        .not_valid_after(MADE + timedelta(days=1))
        .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
    )


def by_root(hash_: Hash, padding_: padding.PSS | padding.PKCS1v15) -> x509.Certificate:
    issuer = root().certificate.subject
    return builder(issuer).sign(root().key, hash_, rsa_padding=padding_)


def test_signed_by() -> None:
    certificate = by_root(SHA384, PSS_SHA384)
    assert is_signed_by(certificate, root().certificate, PSS)
    assert not is_signed_by(certificate, intermediate().certificate, PSS)
    same_name = make_authority("SIMULATED ARK milan", rsa_key("stranger"))
    assert not is_signed_by(certificate, same_name.certificate, PSS)
    other_name = make_authority("another name", rsa_key("ark milan"))
    assert not is_signed_by(certificate, other_name.certificate, PSS)
    assert not is_signed_by(certificate, root().certificate, ECDSA_SHA256)


@pytest.mark.parametrize(
    ("hash_", "padding_"),
    [
        (hashes.SHA256(), padding.PSS(padding.MGF1(hashes.SHA256()), 32)),
        (SHA384, padding.PSS(padding.MGF1(SHA384), 32)),
        (SHA384, padding.PSS(padding.MGF1(SHA384), 0)),
        (hashes.SHA512(), padding.PSS(padding.MGF1(hashes.SHA512()), 64)),
        (SHA384, padding.PKCS1v15()),
    ],
)
def test_other_parameters_are_refused_though_the_signature_is_valid(
    hash_: Hash, padding_: padding.PSS | padding.PKCS1v15
) -> None:
    certificate = by_root(hash_, padding_)
    certificate.verify_directly_issued_by(root().certificate)
    assert not is_signed_by(certificate, root().certificate, PSS)


def test_signed_by_an_elliptic_curve_key() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    signer = (
        x509.CertificateBuilder()
        .subject_name(name_of("signer"))
        .issuer_name(name_of("signer"))
        .serial_number(6)
        .not_valid_before(MADE)
        .not_valid_after(MADE + timedelta(days=1))
        .public_key(key.public_key())
        .sign(key, hashes.SHA256())
    )
    certificate = builder(signer.subject).sign(key, hashes.SHA256())
    assert is_signed_by(certificate, signer, ECDSA_SHA256)
    assert not is_signed_by(certificate, signer, SignatureAlgorithmOID.ECDSA_WITH_SHA384)
    assert not is_signed_by(certificate, signer, PSS)
    assert not is_signed_by(by_root(SHA384, PSS_SHA384), signer, PSS)


def test_who_may_sign() -> None:
    assert is_ca(root().certificate) and is_ca(intermediate().certificate)
    no_ca = make_authority("no CA", rsa_key("stranger"), ca=False)
    assert not is_ca(no_ca.certificate)
    assert not is_ca(by_root(SHA384, PSS_SHA384)), "without any extension"
    only_constraints = builder(name_of("leaf")).add_extension(
        x509.BasicConstraints(True, None), critical=True
    )
    assert not is_ca(only_constraints.sign(ec.generate_private_key(ec.SECP256R1()), SHA384))


def test_names_keys_and_extensions() -> None:
    certificate = root().certificate
    assert subject(certificate) == "CN=SIMULATED ARK milan"
    assert spki_sha256(certificate) == spki_sha256(make_authority("x", root().key).certificate)
    assert spki_sha256(certificate) != spki_sha256(intermediate().certificate)
    assert extension(certificate, x509.SubjectAlternativeName) is None
    constraints = extension(certificate, x509.BasicConstraints)
    assert constraints is not None and constraints.ca


def test_validity() -> None:
    certificate = by_root(SHA384, PSS_SHA384)
    first, last = int(MADE.timestamp()), int(MADE.timestamp()) + 86400
    expected = {first - 1: False, first: True, last: True, last + 1: False}
    assert {t: check_validity("x", certificate, t).passed for t in expected} == expected
    assert check_validity("x", certificate, first).seen == utc(first) == "2027-01-14 08:00:00 UTC"


@pytest.mark.parametrize("seconds", [10**18, -(10**18), 2**63])
def test_times_that_no_calendar_has(seconds: int) -> None:
    assert utc(seconds) == str(seconds)


# --- revocation lists (with a chain: tests/unit/verify/snp/test_revocation.py) -------------------


def test_list() -> None:
    crl = load_crl(make_crl([revoked_entry(2)]), "root's")
    assert check_crl("x", crl, root().certificate, PSS, NOW).passed
    assert not check_crl("x", crl, root().certificate, ECDSA_SHA256, NOW).passed
    assert not check_crl("x", crl, intermediate().certificate, PSS, NOW).passed
    assert is_revoked(crl, intermediate().certificate)
    assert not is_revoked(crl, root().certificate)


def test_issuer_that_may_not_sign_lists() -> None:
    crl = load_crl(make_crl(issuer=intermediate()), "intermediate's")
    check = check_crl("x", crl, intermediate().certificate, PSS, NOW)
    assert (check.passed, check.seen) == (False, "not signed by it")


def test_list_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    good = make_crl()
    monkeypatch.setattr(chains, "MAX_CRL", len(good) - 1)
    with pytest.raises(FormatError, match="at most"):
        load_crl(good, "root's")


def test_list_in_pem_is_not_der() -> None:
    pem = x509.load_der_x509_crl(make_crl()).public_bytes(Encoding.PEM)
    with pytest.raises(FormatError, match="one DER revocation list"):
        load_crl(pem, "root's")
