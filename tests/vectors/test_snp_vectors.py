"""SEV-SNP reports that real chips signed, published with their certificates by other projects.

None comes with AMD's revocation list, so these verify with `insecure_without_revocation`; the list
has its own tests, on simulated chips. Times are within the certificates' validity.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confide.encoding.messages import from_map
from confide.encoding.x509 import load_certificate
from confide.protocol.evidence import Evidence
from confide.protocol.policy.snp import SnpPolicy, SnpReference
from confide.vendors.amd.certificates import EndorsementKey
from confide.vendors.amd.report import Product, Report, SigningKey
from confide.verify import roots
from confide.verify.snp.chain import check_chain, load_chain
from confide.verify.snp.collateral import SnpCollateral
from confide.verify.verdict import Verdict
from confide.verify.x509 import spki_sha256
from tests.support.judged import judge_snp
from tests.support.mutations import Parts, single_bytes, structural
from tests.support.simulated_amd import P384_ORDER, with_signature
from tests.support.snp_policy import policy_json, products_json
from tests.support.verdicts import failed

AT = 1_750_000_000  # 2025-06-15, when all these certificates were valid
MILAN_CHAIN = "go-sev-guest/ask_ark_milan.pem"
GENOA_CHAIN = "go-sev-guest/ask_ark_genoa.pem"
ZERO = "00"
# Azure's virtual TPM machines run under a paravisor, launched with an ID block of Microsoft's.
AZURE = {
    "id_key_digests": [
        "0356215882a825279a85b300b0b742931d113bf7e32dde2e50ffde7ec743ca49"
        "1ecdd7f336dc28a6e0b2bb57af7a44a3"
    ],
    "family_ids": ["01" + ZERO * 15],
    "image_ids": ["02" + ZERO * 15],
}
NEWER_AZURE = AZURE | {
    "id_key_digests": [
        "942fd93ebde6ea7a96efadeafc60f1c6b3d10e703b1dafd7555b92f7f3d32d0e"
        "006767648cba5b102af3d65756af4177"
    ],
    "family_ids": ["022120" + ZERO * 13, "012320" + ZERO * 13],
}


@dataclass(frozen=True)
class Vector:
    """Files of one report, and what is known of it beforehand."""

    report: str
    key: str
    chain: str
    measurement: str
    policy: dict[str, Any]
    version: int = 2


VECTORS = {
    "milan, virtee": Vector(
        "virtee-sev/report_milan.bin",
        "virtee-sev/vcek_milan.der",
        "virtee-sev/cert_chain_milan",
        "7a1e5c266c0108dbc9bb94fa92695132",
        {},
    ),
    "milan, trustee": Vector(
        "trustee/snp/test-report.bin",
        "trustee/snp/test-vcek.der",
        MILAN_CHAIN,
        "a1f3930413247bb38cfc171579ea3c12",
        AZURE,
    ),
    "milan, leased key": Vector(
        "trustee/snp/test-vlek-report.bin",
        "trustee/snp/test-vlek.der",
        "go-sev-guest/ask_ark_milan_vlek.pem",
        "8922ebbdd00ec2c541f36a6e7a82a877",
        {"vmpl": 1},
        version=3,
    ),
    "milan, azure": Vector(
        "trustee/az-snp-vtpm/hcl-report.bin",
        "trustee/az-snp-vtpm/vcek.pem",
        MILAN_CHAIN,
        "9ac48fcac8a2d88aeeff8d427ad4f2be",
        AZURE,
    ),
    "milan, azure v0": Vector(
        "trustee/az-snp-vtpm/evidence-v0.json",
        "trustee/az-snp-vtpm/evidence-v0.json",
        MILAN_CHAIN,
        "6a063be9dd79f6371c842e480f8dc3b5",
        NEWER_AZURE,
        version=3,
    ),
    "milan, azure v1": Vector(
        "trustee/az-snp-vtpm/evidence-v1.json",
        "trustee/az-snp-vtpm/evidence-v1.json",
        MILAN_CHAIN,
        "6a063be9dd79f6371c842e480f8dc3b5",
        NEWER_AZURE,
        version=3,
    ),
    "milan, azure v2": Vector(
        "trustee/az-snp-vtpm/evidence-v2.json",
        "trustee/az-snp-vtpm/evidence-v2.json",
        MILAN_CHAIN,
        "5b0ce64ad1c1f6375dbda5f760b98526",
        NEWER_AZURE,
        version=3,
    ),
    "genoa, azure": Vector(
        "trustee/az-snp-vtpm/evidence-genoa.json",
        "trustee/az-snp-vtpm/evidence-genoa.json",
        GENOA_CHAIN,
        "f57dc09a507c6ecd82369bffb600f000",
        NEWER_AZURE,
        version=3,
    ),
}
DEBUG = Vector(
    "go-sev-guest/attestation.bin",
    "go-sev-guest/vcek.testcer",
    MILAN_CHAIN,
    "b07af9620f3b839b47996422ddec6058",
    {},
)

each_vector = pytest.mark.parametrize("name", VECTORS)


def ders(folder: Path, name: str) -> list[bytes]:
    pem = (folder / name).read_bytes()
    return [c.public_bytes(Encoding.DER) for c in x509.load_pem_x509_certificates(pem)]


def azure_report(hcl: bytes) -> bytes:
    """The report inside Azure's envelope, which says what the report binds."""
    size = int.from_bytes(hcl[1232:1236], "little")
    claims = hcl[1236 : 1236 + size]
    report = hcl[32 : 32 + 1184]
    assert hcl[:4] == b"HCLA"
    assert report[0x50:0x70] == hashlib.sha256(claims).digest()
    return report


def read_report(folder: Path, name: str) -> bytes:
    if not name.endswith(".json"):
        data = (folder / name).read_bytes()
        return azure_report(data) if data.startswith(b"HCLA") else data
    document = json.loads((folder / name).read_text())
    if "report" in document:
        return azure_report(bytes(document["report"]))
    encoded = document["hcl_report"]
    return azure_report(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))


def read_key(folder: Path, name: str) -> bytes:
    if name.endswith(".pem"):
        return ders(folder, name)[0]
    if not name.endswith(".json"):
        return (folder / name).read_bytes()
    vcek = json.loads((folder / name).read_text())["vcek"]
    if vcek.startswith("-----BEGIN"):
        return x509.load_pem_x509_certificate(vcek.encode()).public_bytes(Encoding.DER)
    return base64.urlsafe_b64decode(vcek + "=" * (-len(vcek) % 4))


@cache
def evidence_of(folder: Path, vector_name: str) -> Evidence:
    vector = DEBUG if vector_name == "debug" else VECTORS[vector_name]
    chain = [read_key(folder, vector.key), *ders(folder, vector.chain)[:2]]
    return Evidence("sev-snp", read_report(folder, vector.report), tuple(chain), b"")


def policy_of(vector: Vector, **changes: Any) -> SnpPolicy:
    old = {"bootloader": 2, "tee": 0, "snp": 5, "microcode": 68}
    genoa = {"bootloader": 9, "tee": 0, "snp": 21, "microcode": 70}
    # Bits that tell nothing about authenticity: each machine has its own.
    platforms = [
        [name for at, name in enumerate(("smt", "tsme", "ecc", "alias-check")) if number >> at & 1]
        for number in range(16)
    ]
    products = products_json(platform_info=platforms)
    value = policy_json(
        products={
            "milan": products["milan"] | {"minimum_tcb": old},
            "genoa": products["genoa"] | {"minimum_tcb": genoa},
        },
        minimum_guest_svn=0,
        chip_ids=[],
        csp_ids=["CN=cc-us-east-2.amazonaws.com"],
        opt_outs=["insecure_any_chip", "insecure_without_revocation"],
    )
    return from_map(SnpPolicy, value | vector.policy | changes, "policy")


def verify(evidence: Evidence, vector: Vector, genuine: Evidence, **changes: Any) -> Verdict:
    """Against the values of the genuine evidence."""
    report = genuine.report
    arguments: dict[str, Any] = {
        "report_data": report[0x50:0x90],
        "references": [SnpReference("published", report[0x90:0xC0])],
        "policy": policy_of(vector),
        "binding": report[0xC0:0xE0],
        "collateral": SnpCollateral(),
        "now": AT,
    }
    return judge_snp(evidence, **(arguments | changes))


@each_vector
def test_genuine_evidence(vectors: Path, name: str) -> None:
    vector, evidence = VECTORS[name], evidence_of(vectors, name)
    report = Report.parse(evidence.report)
    assert report.version == vector.version
    assert report.measurement.hex().startswith(vector.measurement)
    verify(evidence, vector, evidence).require()


@each_vector
def test_genuine_evidence_of_a_machine_that_was_not_launched_for_this_manifest(
    vectors: Path, name: str
) -> None:
    vector, evidence = VECTORS[name], evidence_of(vectors, name)
    binding = hashlib.sha256(b"a manifest").digest()
    assert failed(verify(evidence, vector, evidence, binding=binding)) == ["launch binding"]


@each_vector
def test_genuine_evidence_needs_the_revocation_list(vectors: Path, name: str) -> None:
    vector, evidence = VECTORS[name], evidence_of(vectors, name)
    strict = policy_of(vector, opt_outs=["insecure_any_chip"])
    assert failed(verify(evidence, vector, evidence, policy=strict)) == ["revocation list"]


def test_debug_enabled_report_verifies_and_is_refused(vectors: Path) -> None:
    """A real report whose guest policy allows debugging: authentic in every respect."""
    evidence = evidence_of(vectors, "debug")
    assert Report.parse(evidence.report).report_data[:5] == bytes(range(1, 6))
    assert failed(verify(evidence, DEBUG, evidence)) == ["guest policy: debug"]


def test_report_for_another_product_than_wanted(vectors: Path) -> None:
    """Version 2 does not name its processor, so upstream must be told; here the chain tells."""
    evidence = evidence_of(vectors, "debug")
    only_genoa = policy_of(DEBUG, products={"genoa": products_json()["genoa"]})
    assert "product" in failed(verify(evidence, DEBUG, evidence, policy=only_genoa))


@pytest.mark.parametrize("name", ["test-vcek-invalid-legacy.der", "test-vcek-invalid-new.der"])
def test_tampered_vcek(vectors: Path, name: str) -> None:
    """Their hardware ids were overwritten, in both encodings of one: AMD signed something else."""
    tampered = (vectors / "trustee/snp" / name).read_bytes()
    assert EndorsementKey.parse(tampered).chip_id == bytes(range(64))
    vector, evidence = VECTORS["milan, trustee"], evidence_of(vectors, "milan, trustee")
    changed = replace(evidence, endorsements=(tampered, *evidence.endorsements[1:]))
    names = failed(verify(changed, vector, evidence))
    assert {"endorsement key certificate", "signature", "chip id"} <= set(names)


def test_turin_chain_with_serial_number_zero_and_eight_byte_id(vectors: Path) -> None:
    """No report of this chip is published; its certificates are genuine."""
    der = (vectors / "virtee-sev/vcek_turin.der").read_bytes()
    key = EndorsementKey.parse(der)
    assert key.certificate.serial_number == 0
    assert key.product is Product.TURIN and key.kind is SigningKey.VCEK
    assert key.chip_id == bytes.fromhex("1e550a8ee5cf9f4d") + bytes(56)
    assert key.tcb.to_dict() == {"fmc": 0, "bootloader": 0, "tee": 0, "snp": 0, "microcode": 9}
    issuers = [load_certificate(d, "issuer") for d in ders(vectors, "virtee-sev/cert_chain_turin")]
    checks = check_chain(load_chain(key, issuers, SnpCollateral()), AT)
    assert len(checks) == 7 and all(check.passed for check in checks)


@each_vector
def test_serial_number_zero_is_accepted(vectors: Path, name: str) -> None:
    key = EndorsementKey.parse(evidence_of(vectors, name).endorsements[0])
    assert key.certificate.serial_number == 0


@pytest.mark.parametrize(
    ("file", "root"),
    [
        ("go-sev-guest/ask_ark_milan.pem", roots.AMD_MILAN),
        ("go-sev-guest/ask_ark_milan_vlek.pem", roots.AMD_MILAN),
        ("go-sev-guest/ask_ark_genoa.pem", roots.AMD_GENOA),
        ("go-sev-guest/ask_ark_genoa_vlek.pem", roots.AMD_GENOA),
        ("go-sev-guest/ask_ark_turin_vcek.pem", roots.AMD_TURIN),
        ("go-sev-guest/ask_ark_turin_vlek.pem", roots.AMD_TURIN),
    ],
)
def test_pinned_roots_are_those_of_published_chains(
    vectors: Path, file: str, root: roots.Root
) -> None:
    certificate = x509.load_der_x509_certificate(ders(vectors, file)[1])
    assert spki_sha256(certificate) == root.spki_sha256
    assert f"ARK-{root.product}" in certificate.subject.rfc4514_string()


def test_chain_of_another_product(vectors: Path) -> None:
    vector, evidence = VECTORS["milan, virtee"], evidence_of(vectors, "milan, virtee")
    genoa = (evidence.endorsements[0], *ders(vectors, GENOA_CHAIN))
    names = failed(verify(replace(evidence, endorsements=genoa), vector, evidence))
    assert names == ["root", "endorsement key certificate"]


def test_leased_key_under_the_chips_intermediate(vectors: Path) -> None:
    name = "milan, leased key"
    vector, evidence = VECTORS[name], evidence_of(vectors, name)
    chips = (evidence.endorsements[0], *ders(vectors, MILAN_CHAIN))
    names = failed(verify(replace(evidence, endorsements=chips), vector, evidence))
    assert names == ["endorsement key certificate"]


def test_leased_key_that_has_ended(vectors: Path) -> None:
    name = "milan, leased key"
    vector, evidence = VECTORS[name], evidence_of(vectors, name)
    late = verify(evidence, vector, evidence, now=1_765_500_000)  # 2025-12-12
    assert failed(late) == ["endorsement key validity"]


# --- mutations ----------------------------------------------------------------------------------

ALLOW_DEBUG = {
    "opt_outs": ["insecure_allow_debug", "insecure_any_chip", "insecure_without_revocation"]
}
MUTATED = {"debug": replace(DEBUG, policy=ALLOW_DEBUG)} | {
    name: VECTORS[name]
    for name in ("milan, virtee", "milan, trustee", "milan, leased key", "genoa, azure")
}
# A report's signature covers its bytes 0 to 0x29f; a certificate's covers all but the signature's
# algorithm, which is stated twice, and the signature. What nothing covers is: the unused bytes of
# the report's signature field (0x2d0-0x2e7 and 0x318-0x49f), which must be zero; and the second
# statement of each algorithm, which must equal the first. So no changed byte is accepted.


def parts_of(evidence: Evidence) -> Parts:
    return (evidence.report, *evidence.endorsements)


def accepts(parts: Parts, name: str, genuine: Evidence) -> bool:
    changed = Evidence("sev-snp", parts[0] if parts else b"", parts[1:], b"")
    return verify(changed, MUTATED[name], genuine).passed


@pytest.mark.parametrize("name", MUTATED)
def test_no_changed_byte_is_accepted(vectors: Path, name: str) -> None:
    genuine = evidence_of(vectors, name)
    assert accepts(parts_of(genuine), name, genuine)
    for what, parts in single_bytes(parts_of(genuine), 2000, seed=69):
        assert not accepts(parts, name, genuine), what


@pytest.mark.parametrize("name", MUTATED)
def test_every_byte_that_no_signature_covers_is_checked_otherwise(vectors: Path, name: str) -> None:
    genuine = evidence_of(vectors, name)
    report = genuine.report
    for at in (*range(0x2D0, 0x2E8), *range(0x318, 0x4A0)):
        changed = report[:at] + b"\1" + report[at + 1 :]
        assert not accepts((changed, *genuine.endorsements), name, genuine), f"byte {at:#x}"
    for number, der in enumerate(genuine.endorsements):
        certificate = x509.load_der_x509_certificate(der)
        signed = certificate.tbs_certificate_bytes
        end = der.index(signed) + len(signed)
        for at in (*range(4), *range(end, len(der) - len(certificate.signature))):
            changed = der[:at] + bytes([der[at] ^ 1]) + der[at + 1 :]
            chain = list(genuine.endorsements)
            chain[number] = changed
            assert not accepts((report, *chain), name, genuine), f"{number} byte {at:#x}"


@pytest.mark.parametrize("name", MUTATED)
def test_no_structural_change_is_accepted(vectors: Path, name: str) -> None:
    genuine = evidence_of(vectors, name)
    assert accepts(parts_of(genuine), name, genuine)
    others = [parts_of(evidence_of(vectors, other)) for other in MUTATED if other != name]
    for what, parts in structural(parts_of(genuine), others, 500, seed=70):
        assert not accepts(parts, name, genuine), what


@pytest.mark.parametrize("name", MUTATED)
def test_only_the_other_ecdsa_signature_is_accepted(vectors: Path, name: str) -> None:
    """(r, -s) is as valid as (r, s) for the same report: the one thing that can be changed."""
    genuine = evidence_of(vectors, name)
    report = Report.parse(genuine.report)
    r, s = report.signature_r, report.signature_s
    for changed_r, changed_s, accepted in (
        (r, P384_ORDER - s, True),
        (P384_ORDER - r, s, False),
        (s, r, False),
        (r, s ^ 1, False),
    ):
        changed = with_signature(genuine.report, changed_r, changed_s)
        assert accepts((changed, *genuine.endorsements), name, genuine) == accepted
