"""Intel's own answers: what is signed comes out byte by byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from confide.errors import FormatError
from confide.formats import intel_pcs
from confide.formats.collateral import Item
from confide.formats.tdx_collateral import QeIdentity, TcbInfo
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

SAMPLES = {
    "tcbInfo": ("sample_tcbInfo_response", "tcb_info_issuer_chain.pem"),
    "enclaveIdentity": ("sample_qeIdentity_response", "qe_identity_issuer_chain.pem"),
}


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest, vectors: Path) -> tuple[str, bytes, bytes]:
    name = str(request.param)
    body, chain = ((vectors / "go-tdx-guest" / file).read_bytes() for file in SAMPLES[name])
    return name, body, chain


def is_signed(signed: bytes, signature: bytes, chain: bytes) -> bool:
    key = x509.load_pem_x509_certificates(chain)[0].public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    try:
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def test_what_intel_signed(sample: tuple[str, bytes, bytes]) -> None:
    name, body, chain = sample
    signed, signature = intel_pcs.split_signed(body, name)
    assert is_signed(signed, signature, chain)
    (TcbInfo if name == "tcbInfo" else QeIdentity).parse(signed)


def test_any_change_of_an_answer_is_refused_or_breaks_the_signature(
    sample: tuple[str, bytes, bytes],
) -> None:
    name, body, chain = sample
    original = intel_pcs.split_signed(body, name)
    for at in range(0, len(body), 7):
        changed = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        try:
            signed, signature = intel_pcs.split_signed(changed, name)
        except FormatError:
            continue
        # Outside what is signed, only the case of hex digits and white space can change.
        assert (signed, signature) == original or not is_signed(signed, signature, chain)


def test_truncated_answers(sample: tuple[str, bytes, bytes]) -> None:
    name, body, _ = sample
    for size in (0, 1, 20, len(body) // 2, len(body.rstrip()) - 1):
        with pytest.raises(FormatError):
            intel_pcs.split_signed(body[:size], name)
    with pytest.raises(FormatError):
        intel_pcs.split_signed(body, "other")


def test_collateral_from_answers(vectors: Path) -> None:
    folder = vectors / "go-tdx-guest"
    items = {}
    for name, (body, chain) in SAMPLES.items():
        items[name] = Item((folder / body).read_bytes(), 0, (folder / chain).read_bytes())
    collateral = intel_pcs.collateral(
        tcb_info=items["tcbInfo"],
        qe_identity=items["enclaveIdentity"],
        root_ca_crl=(folder / "rootcrl.der").read_bytes(),
        pck_crl=(folder / "pckcrl").read_bytes(),
    )
    assert len(collateral.tcb_info_chain) == len(collateral.qe_identity_chain) == 2
