"""What vendors really signed passes the checks of a program that keeps collateral.

Data: go-sev-guest, virtee (AMD), go-tdx-guest (Intel, 2023), nvtrust (NVIDIA). Nobody has recorded
AMD's revocation list or NVIDIA's OCSP answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confide.encoding.messages import to_map
from confide.encoding.x509 import load_certificate
from confide.protocol.collateral import Bundle, Item
from confide.protocol.manifest import Manifest
from confide.vendors.amd.certificates import EndorsementKey
from confide.vendors.nvidia.rim import Rim, load_rim_xml, signing_certificates
from confide.verify.collateral import vcek_name
from confide.verify.items.merge import Collateral, Merged
from tests.support import simulated_gpu
from tests.support.production import manifest, manifest_value
from tests.support.simulated_intel import POLICY
from tests.support.snp_policy import policy_json, products_json

NOW = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp())
IN_2023 = int(datetime(2023, 7, 1, tzinfo=UTC).timestamp())


def merged(found: Mapping[str, Item], by: Manifest, now: int = NOW) -> Merged:
    return Collateral().merge(Bundle(found), by, now)


def chain(path: Path, *names: str) -> dict[str, Item]:
    certificates = x509.load_pem_x509_certificates(path.read_bytes())
    ders = [certificate.public_bytes(Encoding.DER) for certificate in certificates]
    return {name: Item(der, 0) for name, der in zip(names, ders, strict=True)}


@pytest.mark.parametrize(
    ("product", "vcek", "vlek"),
    [
        ("milan", "ask_ark_milan.pem", "ask_ark_milan_vlek.pem"),
        ("genoa", "ask_ark_genoa.pem", "ask_ark_genoa_vlek.pem"),
        ("turin", "ask_ark_turin_vcek.pem", "ask_ark_turin_vlek.pem"),
    ],
)
def test_amds_issuers(vectors: Path, product: str, vcek: str, vlek: str) -> None:
    folder = vectors / "go-sev-guest"
    ask, ark, asvk = (f"amd/{product}/{part}" for part in ("ask", "ark", "asvk"))
    found = chain(folder / vcek, ask, ark) | chain(folder / vlek, asvk, ark)
    assert merged(found, manifest()).added == (ark, ask, asvk)
    exchanged = {ark: found[ark], ask: found[asvk], asvk: found[ask]}
    refused = merged(exchanged, manifest()).refused
    assert {name: error.code for name, error in refused.items()} == dict.fromkeys(
        (ask, asvk), "collateral-not-genuine"
    )


@pytest.mark.parametrize(
    ("file", "issuers", "tcb"),
    [
        ("virtee-sev/vcek_milan.der", "ask_ark_milan.pem", "0300000000000873"),
        ("virtee-sev/vcek_turin.der", "ask_ark_turin_vcek.pem", "0000000000000009"),
    ],
)
def test_amds_chips(vectors: Path, file: str, issuers: str, tcb: str) -> None:
    der = (vectors / file).read_bytes()
    key = EndorsementKey.parse(der)
    assert key.chip_id is not None
    product = key.product.value
    name = vcek_name(key.product, key.chip_id, bytes.fromhex(tcb))
    found = chain(vectors / "go-sev-guest" / issuers, f"amd/{product}/ask", f"amd/{product}/ark")
    products = products_json()
    for policy in products.values():
        policy["minimum_tcb"] = dict.fromkeys(policy["minimum_tcb"], 0)
    value = manifest_value()
    value["platforms"]["sev-snp"] = policy_json(chip_ids=[key.chip_id.hex()], products=products)
    listed = manifest(platforms=value["platforms"])
    assert name in merged(found | {name: Item(der, 0)}, listed).added
    refused = merged(found | {name: Item(der, 0)}, manifest()).refused
    assert refused[name].code == "collateral-not-needed"


def test_intels_documents_and_lists(vectors: Path) -> None:
    folder = vectors / "go-tdx-guest"

    def read(name: str, issuer_chain: str = "") -> Item:
        beside = (folder / issuer_chain).read_bytes() if issuer_chain else b""
        return Item((folder / name).read_bytes(), 0, beside)

    found = {
        "intel/crl/platform": read("pckcrl", "pck_crl_issuer_chain.pem"),
        "intel/crl/root": read("rootcrl.der"),
        "intel/qe-identity": read("sample_qeIdentity_response", "qe_identity_issuer_chain.pem"),
        "intel/tcb-info/50806f000000": read("sample_tcbInfo_response", "tcb_info_issuer_chain.pem"),
    }
    value = manifest_value()
    value["platforms"]["tdx"] = to_map(replace(POLICY, minimum_tcb_evaluation_data_number=0))
    old = manifest(platforms=value["platforms"])
    result = merged(found, old, IN_2023)
    assert result.refused == {}
    assert set(result.added) == set(found)
    codes = {error.code for error in merged(found, old).refused.values()}
    assert codes == {"collateral-expired"}


def test_nvidias_reference_values(vectors: Path) -> None:
    """Each one under the id that its own words make, at the time when it was signed."""
    rules = {"driver": {"minimum": "0.0"}, "vbios": {"minimum": "00.00"}}
    value = manifest_value()
    gpus = to_map(simulated_gpu.policy(architectures={"hopper": rules, "blackwell": rules}))
    value["roles"]["worker-gpu"]["gpus"] = gpus
    lax = manifest(roles=value["roles"])
    files = sorted((vectors / "nvtrust").glob("*_PROD.swidtag"))
    assert len(files) > 20
    for file in files:
        document = load_rim_xml(file.read_bytes())
        rim, signers = Rim.read(document), signing_certificates(document)
        starts = [load_certificate(der, "signer's").not_valid_before_utc for der in signers]
        signed = int(max(starts).timestamp())
        kind = "NV_GPU_DRIVER" if rim.product == "GH100" else "NV_GPU_CC_DRIVER"
        rim_id = f"{kind}_{rim.product}_{rim.version}"
        if rim.version.count(".") == 4:
            rim_id = f"NV_GPU_VBIOS_1010_0200_882_{rim.version.replace('.', '')}".upper()
        name, item = f"nvidia/rim/{rim_id}", Item(file.read_bytes(), 0)
        assert merged({name: item}, lax, signed) == Merged((name,), (), {})
        assert merged({f"{name}0": item}, lax, signed).added == ()
