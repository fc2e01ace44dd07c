"""vTPMs of a cloud: several certificates up to a root that is pinned, all SIMULATED here."""

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

from confide.errors import FormatError
from confide.protocol.collateral import Bundle, Item
from confide.protocol.evidence import Evidence, VtpmReport
from confide.protocol.manifest import Manifest, Platforms, Role
from confide.protocol.policy.vtpm import InsecureCloud
from confide.vendors.tpm.structures import (
    AK_ATTRIBUTES,
    AK_TEMPLATE,
    Alg,
    check_ak_template,
    u16,
    u32,
)
from confide.verify import attestation_key
from confide.verify.attestation_key import GOOGLE_INSTANCE_OID
from confide.verify.collateral import missing_for
from confide.verify.evidence import verify_evidence
from confide.verify.parsed import ParsedEvidence
from confide.verify.roots import GOOGLE_TPM_ROOT, Root
from confide.verify.x509 import spki_sha256
from tests.unit.verify.vtpm.conftest import NOW, REPORT_DATA, FakeTpm

CLOUD = InsecureCloud("google")
START = datetime.fromtimestamp(NOW, UTC) - timedelta(days=1)
ENDED = START + timedelta(hours=1)
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


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Root("SIMULATED", "vTPM", spki_sha256(ROOT))
    monkeypatch.setattr(attestation_key, "GOOGLE_TPM_ROOT", root)


@pytest.fixture
def manifest() -> Manifest:
    roles = (Role("coordinator", (CloudTpm().reference(),)),)
    return Manifest("production", Platforms(vtpm=CLOUD), roles, ())


def bundle(*certificates: x509.Certificate) -> Bundle:
    """Each certificate under the name that the one below it asks for."""
    items = {}
    for certificate in certificates:
        key = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
        items[f"google/issuer/{key.hex()}"] = Item(der(certificate), NOW)
    return Bundle(items)


def failed(evidence: Evidence, manifest: Manifest, collateral: Bundle) -> list[str]:
    verdict = verify_evidence(
        ParsedEvidence(evidence),
        report_data=REPORT_DATA,
        manifest=manifest,
        role="coordinator",
        collateral=collateral,
        now=NOW,
    )
    return [check.name for check in verdict.checks if not check.passed]


@pytest.mark.usefixtures("pinned")
def test_a_cloud_that_the_manifest_trusts(manifest: Manifest) -> None:
    assert failed(CloudTpm().evidence(), manifest, bundle(CA, ROOT)) == []


def test_the_clouds_real_root_is_pinned_by_its_key(manifest: Manifest) -> None:
    assert len(GOOGLE_TPM_ROOT.spki_sha256) == 32
    assert failed(CloudTpm().evidence(), manifest, bundle(CA, ROOT)) == ["issuer"]


@pytest.mark.usefixtures("pinned")
def test_issuers_that_are_not_there_are_named_one_after_the_other(manifest: Manifest) -> None:
    evidence, role = CloudTpm().evidence(), manifest.role("coordinator")
    assert failed(evidence, manifest, Bundle())[0] == "collateral"
    (first,) = missing_for(ParsedEvidence(evidence), role, manifest, Bundle())
    (second,) = missing_for(ParsedEvidence(evidence), role, manifest, bundle(CA))
    assert {first, second} == set(bundle(CA, ROOT).items)
    assert missing_for(ParsedEvidence(evidence), role, manifest, bundle(CA, ROOT)) == {}


@pytest.mark.usefixtures("pinned")
def test_a_root_with_the_same_name_and_another_key(manifest: Manifest, monkeypatch) -> None:
    other = rsa.generate_private_key(65537, 2048)
    monkeypatch.setitem(KEYS, "root", other)
    forged = bundle(issue("ca", "root"), issue("root", "root"))
    assert "issuer" in failed(CloudTpm().evidence(), manifest, forged)


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize(
    ("leaf", "ca", "name"),
    [
        (issue("ak", "ca", ca=False, instance=False), CA, "attestation key certificate"),
        (issue("ak", "ca", ca=True), CA, "attestation key certificate"),
        (
            issue("ak", "ca", ca=False, end=ENDED),
            CA,
            "attestation key validity",
        ),
        (AK, issue("ca", "root", end=ENDED), "issuer validity"),
        (AK, issue("ca", "root", ca=False), "issuer certificate"),
        (
            issue("ak", "ca", ca=False, critical=True),
            CA,
            "attestation key certificate",
        ),
        (AK, issue("ca", "root", critical=True), "issuer certificate"),
    ],
    ids=[
        "no instance",
        "a CA",
        "leaf has ended",
        "issuer has ended",
        "issuer may not sign",
        "leaf has an unknown critical extension",
        "issuer has one",
    ],
)
def test_a_link_that_is_wrong(
    manifest: Manifest, leaf: x509.Certificate, ca: x509.Certificate, name: str
) -> None:
    evidence = dataclasses.replace(CloudTpm().evidence(), endorsements=(der(leaf),))
    assert failed(evidence, manifest, bundle(ca, ROOT)) == [name]


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize(("length", "wrong"), [(1, []), (0, ["issuer certificate"])])
def test_a_ca_that_may_have_no_ca_below_it(
    manifest: Manifest, length: int, wrong: list[str]
) -> None:
    """Root, upper CA, CA, key: the upper one may have as many CAs below it as it says."""
    evidence = dataclasses.replace(
        CloudTpm().evidence(), endorsements=(der(issue("ak", "ca", ca=False, critical=False)),)
    )
    upper = issue("upper", "root", path_length=length)
    assert failed(evidence, manifest, bundle(issue("ca", "upper"), upper, ROOT)) == wrong


@pytest.mark.usefixtures("pinned")
def test_the_development_ca_is_not_the_clouds(manifest: Manifest) -> None:
    assert "issuer" in failed(FakeTpm().evidence(), manifest, bundle(CA, ROOT))


# --- the key's template, which is the cloud's ----------------------------------------------------


def template(kind: Alg, attributes: int) -> bytes:
    return u16(kind) + u16(Alg.SHA256) + u32(attributes) + bytes(20)


def test_templates_of_restricted_signing_keys() -> None:
    check_ak_template(AK_TEMPLATE)
    check_ak_template(template(Alg.RSA, AK_ATTRIBUTES))


@pytest.mark.parametrize("bit", [1 << 1, 1 << 4, 1 << 5, 1 << 16, 1 << 17, 1 << 18])
def test_templates_of_keys_that_could_sign_anything(bit: int) -> None:
    with pytest.raises(FormatError, match="attributes"):
        check_ak_template(template(Alg.RSA, AK_ATTRIBUTES ^ bit))
