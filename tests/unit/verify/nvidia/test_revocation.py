"""SIMULATED OCSP answers about one certificate: what counts as one, and what each status means."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.ocsp import OCSPCertStatus
from cryptography.x509.oid import ExtendedKeyUsageOID

from confide.guest.coordinator.ca import Authority
from confide.verify.nvidia.collateral import MAX_ANSWER, OcspAnswer
from confide.verify.nvidia.revocation import Revocation
from confide.verify.verdict import Check
from tests.support.simulated_gpu import (
    NOW,
    OCSP_NONCE,
    SimulatedNvidia,
    issue,
    ocsp_response,
    policy,
    verify,
)
from tests.support.verdicts import failed

DAY = 86400
HOUR = 3600
SIGNING = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
COMPROMISED = x509.ReasonFlags.key_compromise
HOLD = x509.ReasonFlags.certificate_hold
SUPERSEDED = x509.ReasonFlags.superseded


@pytest.fixture
def pair(nvidia: SimulatedNvidia) -> tuple[Authority, Authority]:
    """A certificate and its issuer."""
    return nvidia.provisioner["GH100"], nvidia.identity["GH100"]


def check(
    pair: tuple[Authority, Authority],
    *answers: bytes | OcspAnswer,
    now: int = NOW,
    **changes: object,
) -> Check:
    all_of_them = [a if isinstance(a, OcspAnswer) else OcspAnswer(a, OCSP_NONCE) for a in answers]
    revocation = Revocation(all_of_them, policy(**changes), now)
    return revocation.check(pair[0].certificate, pair[1].certificate)


def test_a_good_answer_of_a_certified_responder(pair: tuple[Authority, Authority]) -> None:
    assert check(pair, ocsp_response(*pair)).passed


def test_a_good_answer_of_the_issuer_itself(pair: tuple[Authority, Authority]) -> None:
    assert check(pair, ocsp_response(*pair, responder=pair[1])).passed


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256(), hashes.SHA384()])
def test_hashes_that_name_the_issuer(
    pair: tuple[Authority, Authority], algorithm: hashes.HashAlgorithm
) -> None:
    assert check(pair, ocsp_response(*pair, cert_id=algorithm)).passed


def test_no_answer(pair: tuple[Authority, Authority]) -> None:
    seen = check(pair)
    assert not seen.passed
    assert seen.seen == "no answer in the collateral"


def test_garbage_is_no_answer(pair: tuple[Authority, Authority]) -> None:
    assert "no answer" in check(pair, b"", b"\x30\x03\x0a\x01\x06", bytes(100)).seen


def test_a_large_answer_is_none(pair: tuple[Authority, Authority]) -> None:
    nonce = bytes(MAX_ANSWER)
    answer = OcspAnswer(ocsp_response(*pair, nonce=nonce), nonce)
    seen = Revocation([answer], policy(), NOW).check(pair[0].certificate, pair[1].certificate)
    assert "no answer" in seen.seen


def test_garbage_does_not_hide_a_good_answer(pair: tuple[Authority, Authority]) -> None:
    assert check(pair, b"\x30\x03\x0a\x01\x06", ocsp_response(*pair)).passed


def test_an_answer_about_another_certificate(
    nvidia: SimulatedNvidia, pair: tuple[Authority, Authority]
) -> None:
    sibling = issue("NVIDIA GH100 Provisioner ICA 2", pair[1])
    assert "no answer" in check(pair, ocsp_response(sibling, pair[1])).seen


def test_an_answer_about_the_same_number_of_another_issuer(
    pair: tuple[Authority, Authority],
) -> None:
    """Serial numbers are an issuer's own."""
    namesake = Authority(pair[1].key, pair[1].certificate)
    other = issue("another issuer", None)
    assert check(pair, ocsp_response(pair[0], namesake)).passed
    assert "no answer" in check(pair, ocsp_response(pair[0], other, responder=other)).seen


def test_a_responder_that_the_issuer_did_not_certify(
    nvidia: SimulatedNvidia, pair: tuple[Authority, Authority]
) -> None:
    """Certified for OCSP, and under the same root, by the wrong authority."""
    for authority in (nvidia.device_root, nvidia.provisioner["GH100"], nvidia.rim_root):
        responder = issue("responder", authority, ca=False, extensions=[SIGNING])
        seen = check(pair, ocsp_response(*pair, responder=responder))
        assert not seen.passed
        assert "neither the issuer nor its responder" in seen.seen


@pytest.mark.parametrize(
    "extensions", [[], [x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])]]
)
def test_a_certificate_that_is_not_for_answers(
    pair: tuple[Authority, Authority], extensions: list[x509.ExtensionType]
) -> None:
    responder = issue("no responder", pair[1], ca=False, extensions=extensions)
    assert "neither" in check(pair, ocsp_response(*pair, responder=responder)).seen


@pytest.mark.parametrize("when", [(NOW - 9 * DAY, NOW - 1), (NOW + 1, NOW + DAY)])
def test_a_responder_of_another_time(
    pair: tuple[Authority, Authority], when: tuple[int, int]
) -> None:
    start, end = when
    responder = issue("responder", pair[1], ca=False, extensions=[SIGNING], start=start, end=end)
    assert "neither" in check(pair, ocsp_response(*pair, responder=responder)).seen


def test_a_responder_with_another_kind_of_key(pair: tuple[Authority, Authority]) -> None:
    responder = issue("responder", pair[1], ca=False, extensions=[SIGNING], curve=ec.SECP256R1())
    assert "neither" in check(pair, ocsp_response(*pair, responder=responder)).seen


def test_an_answer_to_another_question(pair: tuple[Authority, Authority]) -> None:
    answer = OcspAnswer(ocsp_response(*pair), bytes(32))
    assert "another question" in check(pair, answer).seen


def test_an_answer_without_a_nonce(pair: tuple[Authority, Authority]) -> None:
    answer = ocsp_response(*pair, nonce=None)
    assert check(pair, answer).seen == "an answer without a nonce"
    opt_out = "insecure_accept_ocsp_without_nonce"
    assert check(pair, answer, opt_outs=[opt_out]).passed
    other = OcspAnswer(ocsp_response(*pair), bytes(32))
    assert not check(pair, other, opt_outs=[opt_out]).passed


@pytest.mark.parametrize(
    ("seconds", "good"),
    [(-3601 - 300, False), (-3600 - 300, True), (0, True), (3600, True), (3601, False)],
)
def test_time_of_an_answer(pair: tuple[Authority, Authority], seconds: int, good: bool) -> None:
    """From thisUpdate, give or take five minutes between clocks; never past nextUpdate."""
    assert check(pair, ocsp_response(*pair), now=NOW + seconds).passed is good


def test_an_answer_without_an_end(pair: tuple[Authority, Authority]) -> None:
    assert (
        check(pair, ocsp_response(*pair, next_update=None)).seen
        == "an answer that does not say when it expires"
    )


def test_unknown_fails_by_default(pair: tuple[Authority, Authority]) -> None:
    answer = ocsp_response(*pair, status=OCSPCertStatus.UNKNOWN)
    seen = check(pair, answer)
    assert (seen.passed, seen.seen) == (False, "unknown")
    accepted = check(pair, answer, opt_outs=["insecure_accept_ocsp_unknown"])
    assert accepted.passed
    assert "because of insecure_accept_ocsp_unknown" in accepted.seen


def revoked(
    pair: tuple[Authority, Authority], reason: x509.ReasonFlags | None, at: int = NOW - HOUR
) -> bytes:
    status = OCSPCertStatus.REVOKED
    return ocsp_response(*pair, status=status, revoked_at=at, reason=reason)


@pytest.mark.parametrize("reason", [None, COMPROMISED, SUPERSEDED])
def test_revoked(pair: tuple[Authority, Authority], reason: x509.ReasonFlags | None) -> None:
    seen = check(pair, revoked(pair, reason))
    assert not seen.passed
    assert "revoked" in seen.seen


@pytest.mark.parametrize(
    ("hours", "at", "good"),
    [(2, NOW - HOUR, True), (2, NOW - 2 * HOUR, False), (0, NOW, False), (24, NOW - DAY, False)],
)
def test_grace_after_revocation(
    pair: tuple[Authority, Authority], hours: int, at: int, good: bool
) -> None:
    seen = check(pair, revoked(pair, SUPERSEDED, at), insecure_revoked_grace_hours=hours)
    assert seen.passed is good
    assert ("insecure_revoked_grace_hours" in seen.seen) is good


@pytest.mark.parametrize(
    "reason", [COMPROMISED, x509.ReasonFlags.ca_compromise, x509.ReasonFlags.aa_compromise]
)
def test_no_grace_after_a_compromise(
    pair: tuple[Authority, Authority], reason: x509.ReasonFlags
) -> None:
    assert not check(pair, revoked(pair, reason, NOW), insecure_revoked_grace_hours=24).passed


def test_certificate_hold_fails_by_default(pair: tuple[Authority, Authority]) -> None:
    answer = revoked(pair, HOLD)
    assert check(pair, answer).seen == "on hold (certificateHold)"
    assert not check(pair, answer, insecure_revoked_grace_hours=24).passed
    accepted = check(pair, answer, opt_outs=["insecure_accept_certificate_hold"])
    assert accepted.passed
    assert "because of insecure_accept_certificate_hold" in accepted.seen


def test_the_opt_out_for_holds_is_for_nothing_else(pair: tuple[Authority, Authority]) -> None:
    opt_outs = ["insecure_accept_certificate_hold"]
    assert not check(pair, revoked(pair, SUPERSEDED), opt_outs=opt_outs).passed
    unknown = ocsp_response(*pair, status=OCSPCertStatus.UNKNOWN)
    assert not check(pair, unknown, opt_outs=opt_outs).passed


def test_a_good_answer_does_not_outweigh_a_bad_one(pair: tuple[Authority, Authority]) -> None:
    good, bad = ocsp_response(*pair), revoked(pair, SUPERSEDED)
    assert not check(pair, good, bad).passed
    assert not check(pair, bad, good).passed


def test_no_byte_of_an_answer_can_be_changed(pair: tuple[Authority, Authority]) -> None:
    """Unless it stays a good answer about the same certificate by the same key: none does."""
    answer = ocsp_response(*pair)
    for at in range(len(answer)):
        changed = answer[:at] + bytes([answer[at] ^ 1 << at % 8]) + answer[at + 1 :]
        assert not check(pair, changed).passed, f"byte {at}"


def test_another_spelling_of_the_signature_is_refused(pair: tuple[Authority, Authority]) -> None:
    """A count of unused bits other than 0, which parsers accept where those bits are zero."""
    for answer in (ocsp_response(*pair) for _ in range(100)):
        signature = ocsp.load_der_ocsp_response(answer).signature
        if signature[-1] & 1 == 0:
            break
    changed = answer.replace(b"\0" + signature, b"\1" + signature)
    assert ocsp.load_der_ocsp_response(changed).signature == signature
    assert check(pair, answer).passed
    assert not check(pair, changed).passed


def test_each_gpu_certificate_but_the_leaf_needs_an_answer(nvidia: SimulatedNvidia) -> None:
    gpu = nvidia.gpu()
    collateral = nvidia.collateral(gpu)
    assert len(collateral.ocsp) == 6
    for number in range(6):
        less = replace(collateral, ocsp=collateral.ocsp[:number] + collateral.ocsp[number + 1 :])
        (name,) = failed(verify(nvidia, gpu, collateral=less))
        assert name.startswith("revocation of")
