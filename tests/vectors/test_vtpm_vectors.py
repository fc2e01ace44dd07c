"""Quotes that other TPMs made: seven of cloud and plain TPMs, published with their keys.

vtpm/quotes.json holds each with the file it is from; Azure's raw RSA signatures got the header of a
TPMT_SIGNATURE in front, and the key is the one named HCLAkPub in the same file.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from confide.host.development_ca import development_ca_spki_sha256
from confide.protocol.evidence import Evidence, VtpmReport
from confide.protocol.launch import UNBOUND
from confide.protocol.policy.vtpm import REQUIRED_PCRS, DevelopmentCa, VtpmReference
from confide.vendors.tpm.structures import Quote, parse_signature, pcr_digest
from confide.verify.vtpm import quote_signature_is_valid
from tests.support.judged import judge_vtpm

QUOTES = json.loads((Path(__file__).parent / "vtpm/quotes.json").read_text())

each_quote = pytest.mark.parametrize("vector", QUOTES, ids=lambda vector: vector["name"])


def key_of(vector: dict[str, Any]) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(vector["exponent"], int(vector["modulus"], 16)).public_key()


def test_there_are_vectors() -> None:
    assert len(QUOTES) == 7


@each_quote
def test_quote(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["quote"])
    quote = Quote.parse(data)
    pcrs = {int(n): bytes.fromhex(value) for n, value in vector["pcrs"].items()}
    assert quote.extra_data.hex() == vector["extra_data"]
    assert quote.pcrs == set(pcrs)
    assert quote.pcr_digest == pcr_digest(pcrs)
    signature = parse_signature(bytes.fromhex(vector["signature"]))
    assert quote_signature_is_valid(key_of(vector), data, signature)


@each_quote
def test_any_changed_byte_breaks_the_signature(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["quote"])
    signature = parse_signature(bytes.fromhex(vector["signature"]))
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :]
        assert not quote_signature_is_valid(key_of(vector), changed, signature)


@each_quote
def test_any_changed_register_breaks_the_digest(vector: dict[str, Any]) -> None:
    quote = Quote.parse(bytes.fromhex(vector["quote"]))
    pcrs = {int(n): bytes.fromhex(value) for n, value in vector["pcrs"].items()}
    for number in pcrs:
        assert quote.pcr_digest != pcr_digest(pcrs | {number: b"\x99" * 32})


def test_signature_of_another_quote_or_another_key() -> None:
    first, second = QUOTES[0], QUOTES[3]
    signature = parse_signature(bytes.fromhex(first["signature"]))
    data = bytes.fromhex(first["quote"])
    assert not quote_signature_is_valid(key_of(first), bytes.fromhex(second["quote"]), signature)
    assert not quote_signature_is_valid(key_of(second), data, signature)


def test_key_of_another_kind_or_too_small_a_key() -> None:
    first = QUOTES[0]
    signature = parse_signature(bytes.fromhex(first["signature"]))
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    assert not quote_signature_is_valid(other, bytes.fromhex(first["quote"]), signature)


# --- evidence of a machine that this project booted ---------------------------------------------

# vtpm/evidence.cbor: a coordinator image under OVMF 2025.02 and swtpm 0.7.1, booted by the runner;
# report, certificates and log are as recorded, the map around them is written anew when it changes
EVIDENCE = Evidence.parse((Path(__file__).parent / "vtpm/evidence.cbor").read_bytes())
REPORT = VtpmReport.parse(EVIDENCE.report)
RECORDED = int(datetime(2026, 11, 22, 16, 6, tzinfo=UTC).timestamp())
BOUND = bytes.fromhex("630f8e893f0c4fcb6fb945cb968bbcccbbf22b0fde5bdad413f9bf545895b0c8")
REFERENCE = VtpmReference("recorded", {n: REPORT.pcrs[n] for n in REQUIRED_PCRS})


def failures(evidence: Evidence, bound: bytes = BOUND, now: int = RECORDED) -> list[str]:
    """The checks that fail. Nothing extended PCR 15 of this machine, so one always does."""
    verdict = judge_vtpm(
        evidence,
        report_data=bound + bytes(32),
        references=[REFERENCE],
        authority=DevelopmentCa(development_ca_spki_sha256()),
        binding=UNBOUND,
        now=now,
    )
    names = [check.name for check in verdict.checks if not check.passed]
    if "evidence" not in names:
        names.remove("launch binding")
    return names


def test_recorded_evidence() -> None:
    assert failures(EVIDENCE) == []
    assert REPORT.pcrs[15] == bytes(32)
    only_separator = "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969"
    assert REPORT.pcrs[2].hex() == REPORT.pcrs[3].hex() == only_separator
    assert REPORT.pcrs[12] == bytes(32)


def test_recorded_evidence_is_of_its_time_and_nonce() -> None:
    assert failures(EVIDENCE, now=RECORDED + 31 * 86400) == ["attestation key validity"]
    assert failures(EVIDENCE, bound=b"\1" * 32) == ["quote binding"]


def test_any_changed_byte_of_report_and_certificates_fails() -> None:
    for at in range(len(EVIDENCE.report)):
        changed = dataclasses.replace(EVIDENCE, report=flipped(EVIDENCE.report, at))
        assert failures(changed), f"report byte {at}"
    for number, certificate in enumerate(EVIDENCE.endorsements):
        for at in range(len(certificate)):
            chain = list(EVIDENCE.endorsements)
            chain[number] = flipped(certificate, at)
            changed = dataclasses.replace(EVIDENCE, endorsements=tuple(chain))
            assert failures(changed), f"certificate {number} byte {at}"


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
