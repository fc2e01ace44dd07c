"""vTPMs of a cloud: several certificates up to a root that is pinned, all SIMULATED here."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from confide.errors import FormatError
from confide.protocol.collateral import Bundle, Item
from confide.protocol.evidence import Evidence
from confide.protocol.manifest import Manifest, Platforms, RoleEntry
from confide.protocol.roles import Role
from confide.vendors.tpm.structures import (
    AK_ATTRIBUTES,
    AK_TEMPLATE,
    Alg,
    check_ak_template,
    u16,
    u32,
)
from confide.verify.collateral import missing_for
from confide.verify.evidence import verify_evidence
from confide.verify.parsed import ParsedEvidence
from confide.verify.roots import GOOGLE_TPM_ROOT
from tests.support.cloud_tpm import AK, CA, CLOUD, KEYS, ROOT, START, CloudTpm, der, issue, pin_root
from tests.support.fake_tpm import NOW, REPORT_DATA, FakeTpm

ENDED = START + timedelta(hours=1)


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    pin_root(monkeypatch)


@pytest.fixture
def manifest() -> Manifest:
    roles = {Role.COORDINATOR: RoleEntry((CloudTpm().reference(),))}
    return Manifest("production", Platforms(vtpm=CLOUD), roles, (), 0, 1)


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
def test_a_root_with_the_same_name_and_another_key(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
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
