"""What vendors' services really answered, as recorded by others, becomes items of collateral.

Data: go-sev-guest, virtee (AMD), go-tdx-guest (Intel, 2023), nvtrust (NVIDIA).
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from confide.client.collateral.freshness import end_of
from confide.client.collateral.vendors import Answer, request_for
from confide.encoding.x509 import load_certificate
from confide.errors import FormatError
from confide.protocol.collateral import Bundle, Item
from confide.protocol.evidence import Evidence
from confide.vendors.amd.certificates import EndorsementKey
from confide.vendors.amd.report import Product
from confide.verify import roots
from confide.verify.collateral import missing_for
from confide.verify.parsed import ParsedEvidence
from confide.verify.x509 import spki_sha256
from tests.support.production import manifest

AMD_CHAINS = {
    "milan/ask": ("go-sev-guest/ask_ark_milan.pem", roots.AMD_MILAN),
    "genoa/ask": ("go-sev-guest/ask_ark_genoa.pem", roots.AMD_GENOA),
    "turin/ask": ("go-sev-guest/ask_ark_turin_vcek.pem", roots.AMD_TURIN),
    "milan/asvk": ("go-sev-guest/ask_ark_milan_vlek.pem", roots.AMD_MILAN),
    "genoa/asvk": ("go-sev-guest/ask_ark_genoa_vlek.pem", roots.AMD_GENOA),
    "turin/asvk": ("go-sev-guest/ask_ark_turin_vlek.pem", roots.AMD_TURIN),
}


def items(name: str, body: bytes, **headers: str) -> dict[str, Item]:
    """What the answer to the request for `name` holds; each item is one that could be kept."""
    request = request_for(name, ())
    assert request is not None
    lower = {key.lower().replace("_", "-"): value for key, value in headers.items()}
    found = dict(request.read(Answer(body, lower, 7)))
    for other, item in found.items():
        end_of(other, item)
    return found


@pytest.mark.parametrize("name", AMD_CHAINS)
def test_amds_chains_end_in_the_pinned_roots(vectors: Path, name: str) -> None:
    file, root = AMD_CHAINS[name]
    found = items(f"amd/{name}", (vectors / file).read_bytes())
    ark = found.pop(f"amd/{name.split('/')[0]}/ark")
    assert spki_sha256(load_certificate(ark.data, "ARK")) == root.spki_sha256
    (intermediate,) = found.values()
    certificate = load_certificate(intermediate.data, name)
    certificate.verify_directly_issued_by(load_certificate(ark.data, "ARK"))


CHIPS = {
    "virtee-sev/vcek_milan.der": ("0300000000000873", "blSPL=3&teeSPL=0&snpSPL=8&ucodeSPL=115"),
    "virtee-sev/vcek_turin.der": (
        "0000000000000009",
        "fmcSPL=0&blSPL=0&teeSPL=0&snpSPL=0&ucodeSPL=9",
    ),
    "go-sev-guest/vcek.testcer": ("0200000000000544", "blSPL=2&teeSPL=0&snpSPL=5&ucodeSPL=68"),
}


@pytest.mark.parametrize("file", CHIPS)
def test_chips_are_known_by_what_their_certificates_say(vectors: Path, file: str) -> None:
    tcb, levels = CHIPS[file]
    der = (vectors / file).read_bytes()
    key = EndorsementKey.parse(der)
    assert key.chip_id is not None
    chip = key.chip_id[:8] if key.product is Product.TURIN else key.chip_id
    name = f"amd/vcek/{key.product.value}/{chip.hex()}/{tcb}"
    request = request_for(name, ())
    assert request is not None
    assert request.url.endswith(f"/vcek/v1/{key.product.value.capitalize()}/{chip.hex()}?{levels}")
    assert items(name, der) == {name: Item(der, 7)}
    with pytest.raises(FormatError, match="that of another"):
        items(f"amd/vcek/{key.product.value}/{chip.hex()}/{'00' * 8}", der)


def test_intels_answers_are_all_that_a_quote_needs(vectors: Path) -> None:
    folder = vectors / "go-tdx-guest"

    def chain(name: str) -> str:
        return quote((folder / f"{name}_issuer_chain.pem").read_text())

    answers = {
        "intel/tcb-info/50806f000000": items(
            "intel/tcb-info/50806f000000",
            (folder / "sample_tcbInfo_response").read_bytes(),
            TCB_Info_Issuer_Chain=chain("tcb_info"),
        ),
        "intel/qe-identity": items(
            "intel/qe-identity",
            (folder / "sample_qeIdentity_response").read_bytes(),
            SGX_Enclave_Identity_Issuer_Chain=chain("qe_identity"),
        ),
        "intel/crl/root": items("intel/crl/root", (folder / "rootcrl.der").read_bytes()),
        "intel/crl/platform": items("intel/crl/platform", (folder / "pckcrl").read_bytes()),
    }
    report = (folder / "tdx_prod_quote_SPR_E4.dat").read_bytes()
    evidence = ParsedEvidence(Evidence("tdx", report, (), b""))
    role = manifest().role("coordinator")
    assert set(missing_for(evidence, role, manifest(), Bundle())) == set(answers)
    found = {name: item for answer in answers.values() for name, item in answer.items()}
    assert missing_for(evidence, role, manifest(), Bundle(found)) == {}
    ends = {name: datetime.fromtimestamp(end_of(name, found[name]) or 0, UTC) for name in found}
    assert {name: f"{end:%Y-%m-%d}" for name, end in ends.items()} == {
        "intel/tcb-info/50806f000000": "2023-07-18",
        "intel/qe-identity": "2023-07-08",
        "intel/crl/root": "2024-04-02",
        "intel/crl/platform": "2023-07-08",
    }
    for name, item in found.items():
        if item.chain:
            with pytest.raises(FormatError):
                items(name, item.data)


def test_nvidias_reference_values(vectors: Path) -> None:
    files = sorted((vectors / "nvtrust").glob("*_PROD.swidtag"))
    assert len(files) > 20
    for file in files:
        answer = {"id": "x", "rim": base64.b64encode(file.read_bytes()).decode(), "sha256": ""}
        found = items("nvidia/rim/x", json.dumps(answer).encode())
        assert found == {"nvidia/rim/x": Item(file.read_bytes(), 7)}
