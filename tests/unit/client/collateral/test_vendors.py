"""What is asked for each item, as the vendors document it, and until when each answer is good."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from confide.client.collateral.freshness import RENEW_AFTER, end_of, is_young
from confide.client.collateral.vendors import Answer, request_for
from confide.encoding.pem import write_chain
from confide.errors import FormatError
from confide.protocol.collateral import Bundle, Item
from tests.support.production import Production
from tests.support.simulated_amd import MADE, intermediate, root
from tests.support.simulated_gpu import NOW, ocsp_response

CHIP = bytes(range(64)).hex()
KDS = "https://kdsintf.amd.com"
PCS = "https://api.trustedservices.intel.com"


@pytest.mark.parametrize(
    ("name", "url"),
    [
        (
            f"amd/vcek/milan/{CHIP}/0300000000000873",
            f"{KDS}/vcek/v1/Milan/{CHIP}?blSPL=3&teeSPL=0&snpSPL=8&ucodeSPL=115",
        ),
        (
            f"amd/vcek/genoa/{CHIP}/0a00000000001754",
            f"{KDS}/vcek/v1/Genoa/{CHIP}?blSPL=10&teeSPL=0&snpSPL=23&ucodeSPL=84",
        ),
        (
            "amd/vcek/turin/0001020304050607/0102030400000048",
            f"{KDS}/vcek/v1/Turin/0001020304050607?fmcSPL=1&blSPL=2&teeSPL=3&snpSPL=4&ucodeSPL=72",
        ),
        ("amd/genoa/ask", f"{KDS}/vcek/v1/Genoa/cert_chain"),
        ("amd/genoa/ark", f"{KDS}/vcek/v1/Genoa/cert_chain"),
        ("amd/turin/asvk", f"{KDS}/vlek/v1/Turin/cert_chain"),
        ("amd/turin/crl", f"{KDS}/vcek/v1/Turin/crl"),
        (
            "intel/tcb-info/90c06f000000",
            f"{PCS}/tdx/certification/v4/tcb?fmspc=90C06F000000&update=early",
        ),
        ("intel/qe-identity", f"{PCS}/tdx/certification/v4/qe/identity?update=early"),
        ("intel/crl/processor", f"{PCS}/sgx/certification/v4/pckcrl?ca=processor&encoding=der"),
        ("intel/crl/platform", f"{PCS}/sgx/certification/v4/pckcrl?ca=platform&encoding=der"),
        (
            "intel/crl/root",
            "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
        ),
        (
            "nvidia/rim/NV_GPU_DRIVER_GH100_550.127.05",
            "https://rim.attestation.nvidia.com/v1/rim/NV_GPU_DRIVER_GH100_550.127.05",
        ),
        ("nvidia/rim/a..?b", "https://rim.attestation.nvidia.com/v1/rim/a..%3Fb"),
    ],
)
def test_addresses(name: str, url: str) -> None:
    request = request_for(name, ())
    assert request is not None
    assert request.url == url
    assert request.body is None


@pytest.mark.parametrize("name", ["other/x", "amd/milan/other", "intel/other", "nvidia/x/y/z", ""])
def test_items_that_nobody_has(name: str) -> None:
    assert request_for(name, ()) is None


def test_intermediate_and_root_come_together() -> None:
    request = request_for("amd/milan/ask", ())
    assert request is not None
    pair = (intermediate().der, root().der)
    items = request.read(Answer(write_chain(pair), {}, 7))
    assert items == {"amd/milan/ask": Item(pair[0], 7), "amd/milan/ark": Item(pair[1], 7)}
    with pytest.raises(FormatError):
        request.read(Answer(b"not PEM", {}, 7))


def test_questions_about_certificates(made: Production) -> None:
    """RFC 6960: the certificate by serial number and its issuer's hashes; a new nonce each time."""
    certificate, *above = (a.certificate for a in made.nvidia.rim_chain)
    chain = write_chain(tuple(authority.der for authority in made.nvidia.rim_chain))
    nonces = set()
    for _ in range(3):
        request = request_for("nvidia/ocsp/00", (certificate, *above))
        assert request is not None
        assert request.url == "https://ocsp.ndis.nvidia.com/"
        assert request.content_type == "application/ocsp-request"
        asked = ocsp.load_der_ocsp_request(request.body or b"")
        assert asked.serial_number == certificate.serial_number
        assert isinstance(asked.hash_algorithm, hashes.SHA384)
        nonce = asked.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
        assert len(nonce) == 32
        nonces.add(nonce)
        assert request.read(Answer(b"answer", {}, 7)) == {
            "nvidia/ocsp/00": Item(b"answer", 7, chain, nonce)
        }
    assert len(nonces) == 3


# --- until when ---------------------------------------------------------------------------------


def test_when_items_end(made: Production) -> None:
    items = made.bundle().items
    ends = {name: end_of(name, item) for name, item in items.items()}
    month = int((MADE + timedelta(days=30)).timestamp())
    for name, end in ends.items():
        match name.split("/"):
            case ["amd", "milan", "crl"]:
                assert end == month
            case ["nvidia", "ocsp", _]:
                assert end == NOW + 3600
            case ["nvidia", "rim", _]:
                assert end == NOW + 300 * 86400, "the signers'"
            case ["intel", *_]:
                assert end is not None
            case _:
                assert end is None
    assert sum(end is None for end in ends.values()) == 3


def cut(data: bytes) -> bytes:
    return data[:-1]


def other(_: bytes) -> bytes:
    return b"<html>busy</html>"


@pytest.mark.parametrize("change", [cut, other, lambda _: b""])
def test_items_that_are_something_else(made: Production, change: Callable[[bytes], bytes]) -> None:
    for name, item in made.bundle().items.items():
        if "ocsp" in name and change is cut:
            continue  # the parser leaves the end of its signature to the verifier
        with pytest.raises(FormatError):
            end_of(name, Item(change(item.data), item.fetched, item.chain))


@pytest.fixture(scope="module")
def bundle(made: Production) -> Bundle:
    return made.bundle()


def test_a_chain_of_evidence_that_no_item_can_hold(made: Production) -> None:
    certificate = made.nvidia.rim_chain[0].certificate
    request = request_for("nvidia/ocsp/00", (certificate,) * 200)
    assert request is not None
    assert request.read(Answer(b"answer", {}, 7))["nvidia/ocsp/00"].chain == b""


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_comes_is_an_item_or_a_format_error(bundle: Bundle, data: st.DataObject) -> None:
    """Bundles and vendors' answers are anybody's, and so are their names."""
    items = bundle.items
    name = data.draw(st.sampled_from([*items, "amd/vcek/x/y", "amd/vcek/milan/zz/zz", "a/b"]))
    original = data.draw(st.sampled_from(list(items.values())))
    at = data.draw(st.integers(0, len(original.data)))
    changed = original.data[:at] + data.draw(st.binary(max_size=9)) + original.data[at + 1 :]
    try:
        end_of(name, Item(changed, 0, original.chain))
    except FormatError as error:
        assert "\n" not in str(error)


def test_answers_without_an_end_are_of_no_use(made: Production) -> None:
    certificate, issuer = made.nvidia.rim_chain[:2]
    response = ocsp_response(certificate, issuer, next_update=None)
    with pytest.raises(FormatError, match="a time at which it expires"):
        end_of("nvidia/ocsp/00", Item(response, 0))


def test_youth() -> None:
    item = Item(b"", 1000)
    assert [is_young(item, 1000 + n) for n in (-1, 0, RENEW_AFTER - 1, RENEW_AFTER)] == [
        False, True, True, False,
    ]  # fmt: skip
