"""Verifies evidence of any platform against what the manifest accepts for a role."""

from __future__ import annotations

from confide.errors import FormatError, PolicyError
from confide.protocol.collateral import Bundle
from confide.protocol.gpu import gpu_nonce
from confide.protocol.manifest import Manifest, RoleEntry
from confide.verify.collateral import (
    Shelf,
    gpu_collateral,
    snp_collateral,
    tdx_collateral,
)
from confide.verify.machine import SnpEvidence, TdxEvidence, VtpmEvidence
from confide.verify.nvidia import verify_gpus
from confide.verify.parsed import ParsedEvidence
from confide.verify.snp import verify_snp
from confide.verify.tdx import verify_tdx
from confide.verify.verdict import COLLATERAL, Check, Verdict, unreadable
from confide.verify.vtpm import verify_vtpm


def verify_evidence(
    evidence: ParsedEvidence,
    *,
    report_data: bytes,
    manifest: Manifest,
    role: str,
    collateral: Bundle,
    now: int,
    binding: bytes | None = None,
) -> Verdict:
    """Every check of the evidence of a machine that claims a role.

    Bad evidence makes a verdict that has not passed, never an exception; `Verdict.require` turns
    such a verdict into one.

    Args:
        evidence: the machine's evidence, read.
        report_data: the 64 bytes that it must bind; for a machine with GPUs these bind the GPUs,
            too (`protocol.gpu.gpu_binding`).
        manifest: what is accepted.
        role: the role's name in the manifest.
        collateral: vendors' statements; `missing_for` names those that are needed.
        now: unix seconds.
        binding: what the machine must have been launched for (32 bytes, `protocol.launch`): this
            manifest, unless given.
    """
    binding = manifest.sha256 if binding is None else binding
    try:
        accepted = manifest.role(role)
    except PolicyError as error:
        return _refused("role", error.expected, error.seen)
    shelf = Shelf(collateral)
    verdict = _verify_machine(evidence, report_data, manifest, accepted, binding, shelf, now)
    if verdict.passed or accepted.gpus is None:
        verdict += _verify_gpus(evidence, report_data, accepted, shelf, now)
    else:
        # What the GPUs are bound to is not verified, so they are not worth any time.
        seen = "not looked at, because the machine's own evidence failed"
        verdict += Verdict((Check("GPUs", "those of the machine", seen, False, "manifest"),))
    return _with_missing(verdict, shelf)


def verify_gpu_evidence(
    evidence: ParsedEvidence,
    *,
    report_data: bytes,
    manifest: Manifest,
    role: str,
    collateral: Bundle,
    now: int,
) -> Verdict:
    """Those checks of `verify_evidence` that are about GPUs, for a machine that checks its own.

    Raises:
        PolicyError: the manifest does not have the role.
    """
    shelf = Shelf(collateral)
    verdict = _verify_gpus(evidence, report_data, manifest.role(role), shelf, now)
    return _with_missing(verdict, shelf)


def _verify_machine(
    evidence: ParsedEvidence,
    report_data: bytes,
    manifest: Manifest,
    role: RoleEntry,
    binding: bytes,
    shelf: Shelf,
    now: int,
) -> Verdict:
    platforms, machine = role.narrow(manifest.platforms), evidence.machine
    names = _names(role, manifest)
    expected = " or ".join(names) or "none"
    if evidence.platform not in names:
        return _refused("platform", expected, evidence.platform)
    accepted = Verdict((Check("platform", expected, evidence.platform, True, "manifest"),))
    match machine:
        case VtpmEvidence() if platforms.vtpm is not None:
            return accepted + verify_vtpm(
                machine,
                report_data=report_data,
                references=role.vtpm,
                authority=platforms.vtpm,
                binding=binding,
                now=now,
            )
        case SnpEvidence() if platforms.snp is not None:
            return accepted + verify_snp(
                machine,
                report_data=report_data,
                references=role.snp,
                policy=platforms.snp,
                binding=binding,
                collateral=snp_collateral(machine, platforms.snp, shelf),
                now=now,
            )
        case TdxEvidence() if platforms.tdx is not None:
            return accepted + verify_tdx(
                machine,
                report_data=report_data,
                references=role.tdx,
                policy=platforms.tdx,
                binding=binding,
                collateral=tdx_collateral(machine, shelf),
                now=now,
            )
        case FormatError():
            return accepted + unreadable("evidence", machine)
    raise AssertionError("a platform that is accepted has a policy")


def _verify_gpus(
    evidence: ParsedEvidence, report_data: bytes, role: RoleEntry, shelf: Shelf, now: int
) -> Verdict:
    refusal = evidence.gpu_refusal
    checks = [Check("GPU refusal", "none", refusal or "none", not refusal, "manifest")]
    if role.gpus is None:
        count = evidence.gpu_count
        checks.append(Check("GPUs", "none", str(count or "none"), not count, "manifest"))
    if role.gpus is None or refusal:
        return Verdict(tuple(checks))
    return Verdict(tuple(checks)) + verify_gpus(
        evidence.gpus,
        nonce=gpu_nonce(report_data),
        policy=role.gpus,
        collateral=gpu_collateral(evidence.gpus, role.gpus, shelf),
        now=now,
    )


def _with_missing(verdict: Verdict, shelf: Shelf) -> Verdict:
    """The verdict with the names of what is missing, right before the first check that needs it.

    What failed before that failed for another reason, which is the first that is shown.
    """
    needing = (n for n, c in enumerate(verdict.checks) if not c.passed and c.source == COLLATERAL)
    at = next(needing, None)
    if at is None or not shelf.missing:
        return verdict
    seen = f"missing: {', '.join(shelf.missing)}"
    missing = Check("collateral", "all that this evidence needs", seen, False, COLLATERAL)
    return Verdict((*verdict.checks[:at], missing, *verdict.checks[at:]))


def _names(role: RoleEntry, manifest: Manifest) -> list[str]:
    """The platforms that the role accepts and the manifest has a policy for."""
    platforms = manifest.platforms
    listed = (
        ("vtpm", role.vtpm, platforms.vtpm),
        ("sev-snp", role.snp, platforms.snp),
        ("tdx", role.tdx, platforms.tdx),
    )
    return [name for name, references, policy in listed if references and policy is not None]


def _refused(name: str, expected: str, seen: str) -> Verdict:
    return Verdict((Check(name, expected, seen, False, "manifest"),))
