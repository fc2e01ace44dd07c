"""Real SEV-SNP reports with their certificates, as recorded by others, and policies that fit them.

Times are within the certificates' validity.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confide.encoding.messages import from_map
from confide.protocol.evidence import Evidence
from confide.protocol.policy.snp import SnpPolicy
from tests.support.snp_policy import policy_json, products_json

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
