"""Verifies vTPM evidence: who certifies the key, what it signed, and what that says was booted.

Rules that hold for every verdict which passes:
- The attestation key's chain ends in the root of the manifest's authority, and is
  valid at the time the caller gives (attestation_key.py).
- That key signed exactly this quote; the quote was made by a TPM, binds the caller's data, and
  covers exactly the register values that were sent along.
- One reference of the manifest matches in every register that it pins. References are never mixed,
  and none leaves one of `REQUIRED_PCRS` open.
- The machine was launched for this manifest: PCR 15 is quoted, and is what follows from its bytes.
- The event log replays to the registers that references pin. It decides nothing: it explains.

Source: TCG TPM 2.0 Library, Part 1, 36.6 (attestation); TCG PC Client Platform Firmware Profile,
3.3.4 (PCR usage); the UAPI group's Linux TPM PCR registry for 8 and above.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from confide.protocol.binding import TPM_EXTRA_DATA_SIZE
from confide.protocol.launch import BINDING_PCR, binding_pcr
from confide.protocol.policy.vtpm import REQUIRED_PCRS, DevelopmentCa, VtpmReference
from confide.vendors.tpm.structures import EcdsaSignature, RsassaSignature, pcr_digest
from confide.verify.attestation_key import check_chain
from confide.verify.launch import check_launch
from confide.verify.machine import VtpmEvidence
from confide.verify.verdict import FORMAT, Check, Verdict, check_equal
from measure import eventlog
from measure.errors import MeasureError
from measure.eventlog import EventLog

PCR_COVERS = {
    0: "firmware code",
    1: "firmware configuration",
    2: "drivers on devices (option ROMs)",
    3: "configuration of drivers on devices",
    4: "boot programs: the unified kernel image with its kernel, initrd and command line",
    5: "partition table and boot manager configuration",
    6: "platform events",
    7: "Secure Boot state and keys",
    8: "boot loader commands",
    9: "initrd and command line as the kernel took them",
    10: "files measured at run time",
    11: "sections of the unified kernel image: kernel, initrd, command line with the root hashes",
    12: "command line, credentials and drivers added from outside the image",
    13: "system extensions added from outside the image",
    14: "machine owner keys",
}
MIN_RSA_BITS = 2048

_NONCE = "nonce and bound data"
_MANIFEST = "manifest"


def verify_vtpm(
    evidence: VtpmEvidence,
    *,
    report_data: bytes,
    references: Sequence[VtpmReference],
    authority: DevelopmentCa,
    binding: bytes,
    now: int,
) -> Verdict:
    """Checks everything; bad evidence makes a verdict that has not passed, never an exception.

    Args:
        evidence: the quote, and the certificates of the key that signed it.
        report_data: the 64 bytes of which the quote must bind the first 32.
        references: the registers that the manifest accepts.
        authority: who may certify attestation keys.
        binding: what the machine must have been launched for, 32 bytes (`protocol.launch`).
        now: unix seconds.
    """
    report, quote = evidence.report, evidence.quote
    signed = quote_signature_is_valid(evidence.key, report.quote, evidence.signature)
    checks = [
        Check("evidence", "well-formed vTPM evidence", "well-formed", True, FORMAT),
        *check_chain(evidence.chain, authority, now),
        Check(
            "quote signature",
            "valid, by the attestation key",
            "valid" if signed else "not valid",
            signed,
            "attestation key certificate",
        ),
        check_equal("quote binding", report_data[:TPM_EXTRA_DATA_SIZE], quote.extra_data, _NONCE),
        check_equal("quoted registers", _numbers(report.pcrs), _numbers(quote.pcrs), FORMAT),
        check_equal("quoted values", pcr_digest(report.pcrs).hex(), quote.pcr_digest.hex(), FORMAT),
    ]
    checks += _check_references(report.pcrs, references)
    place, seen = f"PCR {BINDING_PCR}", report.pcrs.get(BINDING_PCR)
    checks.append(check_launch(place, binding_pcr, binding, seen))
    checks.append(_check_event_log(evidence.event_log, report.pcrs, references))
    return Verdict(tuple(checks))


def quote_signature_is_valid(
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    quote: bytes,
    signature: EcdsaSignature | RsassaSignature,
) -> bool:
    """Whether `signature`, ECDSA or RSASSA with SHA-256 as the key's kind asks, is over `quote`."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(signature, EcdsaSignature):
            der = encode_dss_signature(signature.r, signature.s)
            key.verify(der, quote, ec.ECDSA(hashes.SHA256()))
            return True
        if isinstance(key, rsa.RSAPublicKey) and isinstance(signature, RsassaSignature):
            key.verify(signature.value, quote, padding.PKCS1v15(), hashes.SHA256())
            return key.key_size >= MIN_RSA_BITS
    except InvalidSignature:
        return False
    return False


def closest_reference(
    pcrs: Mapping[int, bytes], references: Sequence[VtpmReference]
) -> VtpmReference:
    """The reference with the fewest registers that differ; the first of equals."""
    return min(references, key=lambda reference: len(_differing(pcrs, reference)))


def _check_references(
    pcrs: Mapping[int, bytes], references: Sequence[VtpmReference]
) -> list[Check]:
    open_shapes = [r.shape for r in references if not r.pcrs.keys() >= set(REQUIRED_PCRS)]
    if open_shapes or not references:
        seen = f"shapes that do not: {open_shapes!a}" if open_shapes else "no shape"
        expected = f"shapes that each pin PCR {_numbers(REQUIRED_PCRS)}"
        return [_failed("boot registers", expected, seen, _MANIFEST)]
    reference = closest_reference(pcrs, references)
    return [
        Check(
            f"PCR {number} ({PCR_COVERS.get(number, 'not used')})",
            value.hex(),
            pcrs[number].hex() if number in pcrs else "not quoted",
            pcrs.get(number) == value,
            f"{_MANIFEST}, shape {reference.shape}",
        )
        for number, value in sorted(reference.pcrs.items())
    ]


def _differing(pcrs: Mapping[int, bytes], reference: VtpmReference) -> list[int]:
    return [number for number, value in reference.pcrs.items() if pcrs.get(number) != value]


def _check_event_log(
    log: EventLog | MeasureError, pcrs: Mapping[int, bytes], references: Sequence[VtpmReference]
) -> Check:
    """Registers that no reference pins may go on changing after boot: their log need not agree."""
    expected = "replays to the quoted registers"
    try:
        if isinstance(log, MeasureError):
            raise log
        replayed = log.replay()
    except MeasureError as error:
        return _failed("event log", expected, str(error), "quote")
    pinned = {number for reference in references for number in reference.pcrs}
    wrong = [
        number
        for number in sorted(pinned & set(pcrs))
        if pcrs[number] != replayed.get(number, eventlog.initial_value(number))
    ]
    seen = f"other values for PCR {_numbers(wrong)}" if wrong else expected
    return Check("event log", expected, seen, not wrong, "quote")


def _numbers(pcrs: Iterable[int]) -> str:
    return " ".join(map(str, sorted(pcrs)))


def _failed(name: str, expected: str, seen: str, source: str) -> Check:
    return Check(name, expected, seen, False, source)
