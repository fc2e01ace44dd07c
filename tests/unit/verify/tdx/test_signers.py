"""TDX: who may sign what. Most signatures here are valid, but by a key that may not make them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.x509 import Certificate

from confide.vendors.intel.quote import Quote
from tests.support.intel_certificates import Signer, issue, revocation_list
from tests.support.simulated_intel import REFERENCE, REPORT, QuotingEnclave, SimulatedIntel
from tests.support.verdicts import Verify, failed

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def test_no_root_but_intels_is_believed_by_default(
    intel: SimulatedIntel, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert failed(verify()) == ["root key"]


def test_root_that_looks_like_intels_is_refused(intel: SimulatedIntel, verify: Verify) -> None:
    """All names are those of the root that is pinned, and everything below it is in order."""
    stranger = SimulatedIntel()
    assert _names(stranger.root) == _names(intel.root)
    quote, collateral = stranger.quote(), stranger.collateral()
    assert failed(verify(quote, collateral=collateral)) == ["root key"]


def test_look_alike_root_in_the_quote_alone(intel: SimulatedIntel, verify: Verify) -> None:
    stranger = SimulatedIntel()
    verdict = verify(stranger.quote())
    assert failed(verdict)[0] == "root key"
    assert "PCK CA's revocation list" in failed(verdict)


def test_ca_in_the_place_of_a_signer(intel: SimulatedIntel, verify: Verify) -> None:
    """A key that may sign certificates signs TCB info: by name, and under the signer's name."""
    intel.tcb_signer = intel.platform_ca
    names = ["TCB info signer: chain", "QE identity signer: chain"]
    assert failed(verify(collateral=intel.collateral())) == names
    intel.tcb_signer = issue("Intel SGX TCB Signing", intel.root, ca=True)
    assert failed(verify(collateral=intel.collateral())) == names


@pytest.mark.parametrize("name", ["Intel SGX PCK Certificate", "Intel SGX TCB Signing 2", "Intel"])
def test_other_leaf_of_the_root_in_the_place_of_the_signer(
    intel: SimulatedIntel, verify: Verify, name: str
) -> None:
    """Whatever else Intel's root certifies one day must not speak for Intel's TCB."""
    intel.tcb_signer = issue(name, intel.root)
    verdict = verify(collateral=intel.collateral())
    assert failed(verdict) == ["TCB info signer: chain", "QE identity signer: chain"]


def test_other_ca_of_the_root_in_the_place_of_the_pck_ca(
    intel: SimulatedIntel, verify: Verify
) -> None:
    intel.platform_ca = issue("Intel SGX Other CA", intel.root, ca=True)
    intel.pck = intel.issue_pck()
    assert failed(verify(intel.quote())) == ["PCK certificate: chain"]


def test_root_with_the_right_key_that_did_not_sign_itself(
    intel: SimulatedIntel, verify: Verify
) -> None:
    """Its time and extensions are then signed by nobody."""
    key = intel.root.key
    forged = issue("Intel SGX Root CA", SimulatedIntel().root, ca=True, key=key)
    intel.root = forged
    names = failed(verify(intel.quote(), collateral=intel.collateral()))
    assert names == [
        "PCK certificate: chain",
        "TCB info signer: chain",
        "QE identity signer: chain",
    ]


def test_pck_in_the_place_of_the_signer(intel: SimulatedIntel, verify: Verify) -> None:
    """Every platform has a PCK: it must not be able to speak for Intel."""
    intel.tcb_signer = intel.pck
    verdict = verify(collateral=intel.collateral())
    assert failed(verdict)[:2] == ["TCB info signer: chain", "QE identity signer: chain"]


def test_signer_in_the_place_of_the_pck(intel: SimulatedIntel, verify: Verify) -> None:
    intel.pck = intel.tcb_signer
    assert failed(verify(intel.quote())) == ["certificates and collateral"]


def test_signature_by_another_algorithm_is_refused(intel: SimulatedIntel, verify: Verify) -> None:
    intel.tcb_signer = issue("Intel SGX TCB Signing", intel.root, algorithm=SHA384())
    collateral = intel.collateral()
    assert failed(verify(collateral=collateral)) == [
        "TCB info signer: chain",
        "QE identity signer: chain",
    ]


def test_attestation_key_that_the_enclave_did_not_make(
    intel: SimulatedIntel, verify: Verify
) -> None:
    """The attacker's key signs the quote; the enclave's genuine report binds another."""
    genuine = intel.quote()
    attacker = SimulatedIntel()
    forged = bytearray(attacker.quote(replace(REPORT, mrtd=REFERENCE.mrtd)))
    at = 632 + 4 + 128 + 6
    forged[at:] = genuine[at:]
    size = len(genuine) - 636
    forged[632:636] = size.to_bytes(4, "little")
    forged[at - 4 : at] = genuine[at - 4 : at]
    assert failed(verify(bytes(forged))) == ["QE report: attestation key"]


def test_binding_with_something_after_the_hash(intel: SimulatedIntel, verify: Verify) -> None:
    parsed = Quote.parse(intel.quote())
    bound = parsed.qe_report.report_data[:32] + b"\1" + bytes(31)
    quote = intel.quote(qe=QuotingEnclave(bound=bound))
    assert failed(verify(quote)) == ["QE report: attestation key"]


def test_attestation_key_that_is_no_point_of_the_curve(
    intel: SimulatedIntel, verify: Verify
) -> None:
    quote = bytearray(intel.quote())
    quote[700:764] = bytes(64)
    assert "quote signature" in failed(verify(bytes(quote)))


@pytest.mark.parametrize(("r", "s"), [(0, 0), (0, 1), (1, 0), (1, 1), (P256_ORDER, P256_ORDER)])
def test_degenerate_signatures(intel: SimulatedIntel, verify: Verify, r: int, s: int) -> None:
    quote = bytearray(intel.quote())
    quote[636:700] = r.to_bytes(32) + s.to_bytes(32)
    assert failed(verify(bytes(quote))) == ["quote signature"]


@pytest.mark.parametrize(
    ("revoked", "check"),
    [
        ("pck", "PCK certificate: revocation"),
        ("platform_ca", "CA and signers: revocation"),
        ("tcb_signer", "CA and signers: revocation"),
        ("root", "CA and signers: revocation"),
    ],
)
def test_revoked_certificate(
    intel: SimulatedIntel, verify: Verify, revoked: str, check: str
) -> None:
    certificate: Certificate = getattr(intel, revoked).certificate
    lists: dict[str, Any] = {
        "root_ca_crl": revocation_list(intel.root, certificate),
        "pck_crl": revocation_list(intel.platform_ca, certificate),
    }
    assert failed(verify(collateral=intel.collateral(**lists))) == [check]


def _names(signer: Signer) -> tuple[object, object]:
    return signer.certificate.subject, signer.certificate.issuer
