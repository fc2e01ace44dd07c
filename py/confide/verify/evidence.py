"""Verifies evidence of any platform against what the manifest accepts for a role."""

from __future__ import annotations

from confide.errors import PolicyError
from confide.formats.evidence import Evidence
from confide.formats.manifest import Manifest
from confide.verify.verdict import Check, Verdict
from confide.verify.vtpm import verify_vtpm


def verify_evidence(
    evidence: Evidence, *, report_data: bytes, manifest: Manifest, role: str, now: int
) -> Verdict:
    """Every check of the evidence of a machine that claims `role`, at `now` (unix seconds).

    `report_data` (64 bytes) is what the evidence must bind. Bad evidence makes a verdict that has
    not passed, never an exception; `Verdict.require` turns it into one.
    """
    try:
        references = manifest.role(role).vtpm
    except PolicyError as error:
        return _refused("role", error.expected, error.seen)
    if evidence.platform != "vtpm":
        return _refused("platform", "vtpm", evidence.platform)
    if evidence.gpus:
        return _refused("GPUs", "none", str(len(evidence.gpus)))
    if manifest.development_ca is None:
        return _refused("issuer", "an authority for vtpm", "none")
    platform = Check("platform", "vtpm", evidence.platform, True, "manifest")
    return Verdict((platform,)) + verify_vtpm(
        evidence,
        report_data=report_data,
        references=references,
        development_ca=manifest.development_ca,
        now=now,
    )


def _refused(name: str, expected: str, seen: str) -> Verdict:
    return Verdict((Check(name, expected, seen, False, "manifest"),))
