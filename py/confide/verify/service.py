"""What a client checks before it trusts a service: the coordinator. nodes.py has what comes then.

Rules of this module:

* No I/O, no clock: the caller brings the bytes, the nonce it chose and the time (unix seconds).
* The pinned manifest is the only source of reference values. What the service serves is compared
  with it byte for byte; it never adds to what is accepted.
* Everything that is used later (root CA, mesh CA, KEM key) is bound by something checked here.
* A verdict names each check. Bad input from the service makes a failed check, never an exception,
  so that a person sees how far it went. The caller must call `Verdict.require`.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from confide.encoding.x509 import load_certificate
from confide.errors import ConfideError, FormatError, PolicyError, VerificationError
from confide.protocol.binding import coordinator_report_data
from confide.protocol.certificates import public_key_of
from confide.protocol.collateral import Bundle
from confide.protocol.coordinator import Attestation
from confide.protocol.history import encode_history, parse_history, verify_history
from confide.protocol.manifest import Manifest
from confide.protocol.nonce_tree import root_of
from confide.protocol.roles import Role
from confide.protocol.validity import CLOCK_TOLERANCE, date, require_near, shown
from confide.verify.evidence import verify_evidence
from confide.verify.mesh import verify_mesh_ca, verify_root_ca
from confide.verify.parsed import ParsedEvidence
from confide.verify.verdict import Check, Verdict, check_equal

_PINNED = "pinned manifest"
_THIS_CLOCK = "clock of this computer"
COORDINATOR_CLOCK = "coordinator's clock"
"""The check that the coordinator's time is the caller's."""


def verify_coordinator(
    attestation: Attestation,
    *,
    manifest_pinned: bytes,
    nonce: bytes,
    collateral: Bundle,
    now: int,
) -> Verdict:
    """Every check of a coordinator that says it runs the pinned manifest.

    If the verdict passes, `attestation.root_ca` and `.mesh_ca` may be trusted, for as long as the
    caller lets a verification count, and the coordinator issues certificates by the right time.

    Args:
        attestation: what the coordinator answered.
        manifest_pinned: the bytes that the caller pins.
        nonce: the 32 bytes that the caller chose for this answer.
        collateral: vendors' statements; `missing_for` names those that are needed.
        now: unix seconds.

    Raises:
        FormatError: the pinned manifest is malformed.
    """
    manifest = Manifest.parse(manifest_pinned)
    served = Check(
        "manifest",
        f"SHA-256 {manifest.sha256.hex()}",
        f"SHA-256 {sha256(attestation.manifest).hexdigest()}"
        if attestation.manifest
        else "none is set",
        attestation.manifest == manifest_pinned,
        _PINNED,
    )
    evidence = _verify_evidence(attestation, manifest_pinned, manifest, nonce, collateral, now)

    def check_mesh_ca() -> None:
        verify_mesh_ca(
            attestation.mesh_ca, attestation.root_ca, manifest_sha256=manifest.sha256, now=now
        )

    def check_history() -> None:
        verify_history(
            parse_history(attestation.history),
            root_key=public_key_of(load_certificate(attestation.root_ca, "root CA"), "root CA"),
            manifest_sha256=manifest.sha256,
            mesh_ca=attestation.mesh_ca,
        )

    return Verdict(
        (
            served,
            _check_clock(attestation, now),
            check_validity(manifest, now),
            *evidence.checks,
            _check_root_ca(attestation, now),
            _check("mesh CA", "signed by the root CA, for the manifest", check_mesh_ca, _PINNED),
            _check("history", "signed, ends with the manifest", check_history, _PINNED),
        )
    )


def check_validity(manifest: Manifest, now: int) -> Check:
    """Whether the manifest has been released and has not expired at `now` (Unix seconds)."""
    expected = f"a time from {date(manifest.released)} to {date(manifest.expires)}"
    try:
        manifest.require_current(now)
    except PolicyError as error:
        return Check("manifest validity", expected, f"{error.code}: {error}", False, _PINNED)
    return Check("manifest validity", expected, date(now), True, _PINNED)


def verify_unset_coordinator(
    attestation: Attestation, *, manifest: Manifest, nonce: bytes, collateral: Bundle, now: int
) -> Verdict:
    """Every check of a coordinator that has no manifest yet, before `manifest` is given to it.

    The arguments are those of `verify_coordinator`.
    """
    return Verdict(
        (
            Check(
                "manifest",
                "none yet",
                f"SHA-256 {sha256(attestation.manifest).hexdigest()}"
                if attestation.manifest
                else "none yet",
                not attestation.manifest and not attestation.mesh_ca,
                "the coordinator is new",
            ),
            _check_clock(attestation, now),
            check_validity(manifest, now),
            *_verify_evidence(attestation, b"", manifest, nonce, collateral, now).checks,
            _check_root_ca(attestation, now),
            check_equal("history", encode_history([]), attestation.history, "no manifest yet"),
        )
    )


def _verify_evidence(
    attestation: Attestation,
    manifest_bytes: bytes,
    manifest: Manifest,
    nonce: bytes,
    collateral: Bundle,
    now: int,
) -> Verdict:
    """The evidence must bind `manifest_bytes`: what we know, not what was sent along."""
    report_data = coordinator_report_data(
        root_of(nonce, attestation.index, attestation.path),
        manifest=manifest_bytes,
        root_ca=attestation.root_ca,
        mesh_ca=attestation.mesh_ca,
        history=attestation.history,
        time=attestation.time,
    )
    try:
        evidence = ParsedEvidence.parse(attestation.evidence)
    except FormatError as error:
        return Verdict((_failed("evidence", "well-formed evidence", error, "evidence format"),))
    return verify_evidence(
        evidence,
        report_data=report_data,
        manifest=manifest,
        role=Role.COORDINATOR,
        collateral=collateral,
        now=now,
    )


def _check_clock(attestation: Attestation, now: int) -> Check:
    """Whether the coordinator's time, which its evidence binds, is the caller's.

    Otherwise its certificates may have been issued at a time that is not theirs.
    """
    expected = f"{shown(now)}, give or take {CLOCK_TOLERANCE} s"
    try:
        require_near(attestation.time, now=now)
    except VerificationError as error:
        return _failed(COORDINATOR_CLOCK, expected, error, _THIS_CLOCK)
    return Check(COORDINATOR_CLOCK, expected, date(attestation.time), True, _THIS_CLOCK)


def _check_root_ca(attestation: Attestation, now: int) -> Check:
    return _check(
        "root CA",
        "a certificate authority of the mesh profile",
        lambda: verify_root_ca(attestation.root_ca, now=now),
        "bound by the evidence",
    )


def _check(name: str, expected: str, verify: Callable[[], None], source: str) -> Check:
    try:
        verify()
    except ConfideError as error:
        return _failed(name, expected, error, source)
    return Check(name, expected, expected, True, source)


def _failed(name: str, expected: str, error: ConfideError, source: str) -> Check:
    return Check(name, expected, str(error), False, source)
