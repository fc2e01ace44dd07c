"""What the manifest demands of a report, claim by claim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from confide.protocol.policy.snp import (
    OPT_OUT_BITS,
    PINNED_POLICY,
    OptOut,
    ProductPolicy,
    SnpPolicy,
    SnpReference,
)
from confide.vendors.amd.certificates import EndorsementKey
from confide.vendors.amd.report import GuestPolicy, PlatformInfo, Report, bit_name
from confide.verify.claims import AtLeast, Claim, Equals, InsecureAny, OneOf
from confide.verify.launch import check_launch
from confide.verify.snp.origin import Tcbs
from confide.verify.verdict import Check

_MANIFEST = "manifest"


def check_policy(
    report: Report,
    key: EndorsementKey,
    tcbs: Tcbs,
    references: Sequence[SnpReference],
    policy: SnpPolicy,
    binding: bytes,
) -> list[Check]:
    """Every check against the manifest, what matters most first."""
    return [
        _check_launch_digest(report, references),
        check_launch("HOST_DATA", bytes, binding, report.host_data),
        *_check_opt_outs(report, policy),
        Equals("VMPL", policy.vmpl, _MANIFEST).check(report.vmpl),
        *_check_product(report, key, tcbs, policy),
        *_check_machine(report, key, policy),
        AtLeast("guest SVN", policy.minimum_guest_svn, _MANIFEST).check(report.guest_svn),
        OneOf("id key", policy.id_key_digests, _MANIFEST).check(report.id_key_digest),
        OneOf("author key", policy.author_key_digests, _MANIFEST).check(report.author_key_digest),
        OneOf("family id", policy.family_ids, _MANIFEST).check(report.family_id),
        OneOf("image id", policy.image_ids, _MANIFEST).check(report.image_id),
    ]


def _check_launch_digest(report: Report, references: Sequence[SnpReference]) -> Check:
    name = "launch digest"
    for reference in references:
        if reference.launch_digest == report.measurement:
            source = f"{_MANIFEST}, shape {reference.shape}"
            return Equals(name, reference.launch_digest, source).check(report.measurement)
    digests = [reference.launch_digest for reference in references]
    return OneOf(name, digests, _MANIFEST).check(report.measurement)


def _check_opt_outs(report: Report, policy: SnpPolicy) -> Iterator[Check]:
    """The bits of the guest policy that must be clear, or have an opt-out."""
    for bit, opt_out in OPT_OUT_BITS.items():
        name = f"guest policy: {bit_name(bit)}"
        claim: Claim = Equals(name, "clear", _MANIFEST)
        if opt_out in policy.opt_outs:
            claim = InsecureAny(name, opt_out, _MANIFEST)
        yield claim.check("set" if bit & report.policy else "clear")


def _check_product(
    report: Report, key: EndorsementKey, tcbs: Tcbs, policy: SnpPolicy
) -> Iterator[Check]:
    """Whether the product is accepted, and then all that its own policy demands."""
    accepted = [product.value for product in policy.products]
    yield OneOf("product", accepted, _MANIFEST).check(key.product.value)
    product = policy.products.get(key.product)
    if product is None:
        return
    yield _check_bits("guest policy", report.policy & PINNED_POLICY, product.guest_policy)
    yield _check_bits("platform information", report.platform_info, product.platform_info)
    for name, seen in (
        ("reported", tcbs.reported),
        ("committed", tcbs.committed),
        ("current", tcbs.current),
        ("launch", tcbs.launch),
    ):
        passed = seen.at_least(product.minimum_tcb)
        expected = f"each at least: {product.minimum_tcb}"
        yield Check(f"{name} TCB", expected, str(seen), passed, _MANIFEST)
    yield from _check_mitigations(report, product)


def _check_bits(
    name: str,
    seen: GuestPolicy | PlatformInfo,
    accepted: Sequence[GuestPolicy] | Sequence[PlatformInfo],
) -> Check:
    """Whether exactly these bits are accepted together; if not, the closest set is shown."""
    closest = min(accepted, key=lambda bits: int(bits ^ seen).bit_count(), default=None)
    expected = "nothing is accepted"
    if closest is not None:
        expected = f"exactly {_names(closest)} (the closest of {len(accepted)} accepted sets)"
    return Check(name, expected, _names(seen), closest == seen, _MANIFEST)


def _check_mitigations(report: Report, product: ProductPolicy) -> Iterator[Check]:
    for name, seen in (
        ("launch mitigations", report.launch_mitigations),
        ("current mitigations", report.current_mitigations),
    ):
        passed = (seen or 0) & product.mitigations == product.mitigations
        shown = "none stated" if seen is None else f"{seen:#x}"
        yield Check(name, f"the bits {product.mitigations:#x}", shown, passed, _MANIFEST)


def _check_machine(report: Report, key: EndorsementKey, policy: SnpPolicy) -> Iterator[Check]:
    """Whose machine it is: one of these clouds where a VLEK signs, and one of these chips."""
    if key.csp_id is not None:
        yield OneOf("cloud", policy.csp_ids, _MANIFEST).check(key.csp_id)
        if not policy.chip_ids:
            return
    claim: Claim = OneOf("chip", policy.chip_ids, _MANIFEST)
    if OptOut.ANY_CHIP in policy.opt_outs:
        claim = InsecureAny("chip", OptOut.ANY_CHIP, _MANIFEST)
    check = claim.check(report.chip_id)
    yield check if any(report.chip_id) else replace(check, seen="a masked chip id (zeros)")


def _names(flags: GuestPolicy | PlatformInfo) -> str:
    return " ".join(bit_name(bit) for bit in flags) or "no bit"
