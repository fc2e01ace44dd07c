"""Verifies evidence of any platform against what the manifest accepts for a role."""

from __future__ import annotations

from confide.errors import PolicyError
from confide.protocol.collateral import Bundle
from confide.protocol.evidence import Evidence
from confide.protocol.gpu import gpu_nonce
from confide.protocol.manifest import Manifest, RoleEntry
from confide.protocol.policy.vtpm import InsecureCloud
from confide.verify.collateral import (
    Shelf,
    gpu_collateral,
    snp_collateral,
    tdx_collateral,
    with_issuers,
)
from confide.verify.nvidia import verify_gpus
from confide.verify.snp import verify_snp
from confide.verify.tdx import verify_tdx
from confide.verify.verdict import Check, Verdict
from confide.verify.vtpm import verify_vtpm


def verify_evidence(
    evidence: Evidence,
    *,
    report_data: bytes,
    manifest: Manifest,
    role: str,
    collateral: Bundle,
    now: int,
) -> Verdict:
    """Every check of the evidence of a machine that claims `role`, at `now` (unix seconds).

    `report_data` (64 bytes) is what the evidence must bind; for a machine with GPUs it must bind
    these too (`formats.gpu.gpu_binding`). Bad evidence makes a verdict that has not passed, never
    an exception; `Verdict.require` turns it into one.
    """
    try:
        accepted = manifest.role(role)
    except PolicyError as error:
        return _refused("role", error.expected, error.seen)
    shelf = Shelf(collateral)
    verdict = _verify_machine(evidence, report_data, manifest, accepted, shelf, now)
    if verdict.passed or accepted.gpus is None:
        verdict += _verify_gpus(evidence, report_data, accepted, shelf, now)
    else:
        # What the GPUs hang from is nobody's word: no time is spent on what anybody may have sent.
        seen = "not looked at: the machine's own evidence failed"
        verdict += Verdict((Check("GPUs", "those of the machine", seen, False, "manifest"),))
    return _with_missing(verdict, shelf)


def verify_gpu_evidence(
    evidence: Evidence,
    *,
    report_data: bytes,
    manifest: Manifest,
    role: str,
    collateral: Bundle,
    now: int,
) -> Verdict:
    """Those checks of `verify_evidence` that are about GPUs: what a machine asks of its own ones.

    Raises PolicyError if the manifest does not have the role.
    """
    shelf = Shelf(collateral)
    verdict = _verify_gpus(evidence, report_data, manifest.role(role), shelf, now)
    return _with_missing(verdict, shelf)


def _verify_machine(
    evidence: Evidence,
    report_data: bytes,
    manifest: Manifest,
    role: RoleEntry,
    shelf: Shelf,
    now: int,
) -> Verdict:
    platforms = manifest.platforms
    accepted = Verdict((Check("platform", _names(role), evidence.platform, True, "manifest"),))
    if evidence.platform == "vtpm" and role.vtpm and platforms.vtpm is not None:
        if isinstance(platforms.vtpm, InsecureCloud):
            evidence = with_issuers(evidence, shelf)
        return accepted + verify_vtpm(
            evidence,
            report_data=report_data,
            references=role.vtpm,
            authority=platforms.vtpm,
            now=now,
        )
    if evidence.platform == "sev-snp" and role.snp and platforms.snp is not None:
        return accepted + verify_snp(
            evidence,
            report_data=report_data,
            references=role.snp,
            policy=platforms.snp,
            collateral=snp_collateral(evidence, shelf),
            now=now,
        )
    if evidence.platform == "tdx" and role.tdx and platforms.tdx is not None:
        found = tdx_collateral(evidence, shelf)
        if found is None:
            return _refused("quote", "a TDX quote, and collateral for it", "not both")
        return accepted + verify_tdx(
            evidence,
            report_data=report_data,
            references=role.tdx,
            policy=platforms.tdx,
            collateral=found,
            now=now,
        )
    return _refused("platform", _names(role), evidence.platform)


def _verify_gpus(
    evidence: Evidence, report_data: bytes, role: RoleEntry, shelf: Shelf, now: int
) -> Verdict:
    refusal = evidence.gpu_refusal
    checks = [Check("GPU refusal", "none", refusal or "none", not refusal, "manifest")]
    if role.gpus is None:
        seen = str(len(evidence.gpus)) if evidence.gpus else "none"
        checks.append(Check("GPUs", "none", seen, not evidence.gpus, "manifest"))
    if role.gpus is None or refusal:
        return Verdict(tuple(checks))
    return Verdict(tuple(checks)) + verify_gpus(
        evidence.gpus,
        nonce=gpu_nonce(report_data),
        policy=role.gpus,
        collateral=gpu_collateral(evidence, shelf),
        now=now,
    )


def _with_missing(verdict: Verdict, shelf: Shelf) -> Verdict:
    """What was missing, said first of all: what failed may have failed for the want of it."""
    if verdict.passed or not shelf.missing:
        return verdict
    missing = Check(
        "collateral", "all that this evidence needs", f"no {', '.join(shelf.missing)}",
        False, "collateral: `confide collateral fetch` gets it",
    )  # fmt: skip
    return Verdict((missing,)) + verdict


def _names(role: RoleEntry) -> str:
    listed = (("vtpm", role.vtpm), ("sev-snp", role.snp), ("tdx", role.tdx))
    return " or ".join(name for name, references in listed if references)


def _refused(name: str, expected: str, seen: str) -> Verdict:
    return Verdict((Check(name, expected, seen, False, "manifest"),))
