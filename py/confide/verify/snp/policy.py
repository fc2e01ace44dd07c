"""What the manifest demands of a report, claim by claim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from confide.protocol.policy.snp import OPT_OUT_BITS, Bits, OptOut, SnpPolicy, SnpReference
from confide.vendors.amd.certificates import EndorsementKey
from confide.vendors.amd.report import GuestPolicy, PlatformInfo, Report, Tcb, bit_name
from confide.verify.claims import AtLeast, Claim, Equals, InsecureAny, OneOf
from confide.verify.snp.origin import Tcbs
from confide.verify.verdict import Check

_MANIFEST = "manifest"


def check_policy(
    report: Report,
    key: EndorsementKey,
    tcbs: Tcbs,
    references: Sequence[SnpReference],
    policy: SnpPolicy,
) -> list[Check]:
    """Every check against the manifest, what matters most first."""
    return [
        _check_launch_digest(report, references),
        *_check_guest_policy(report, policy),
        Equals("VMPL", policy.vmpl, _MANIFEST).check(report.vmpl),
        *_check_tcbs(key, tcbs, policy),
        *_check_mitigations(report, policy),
        *_check_bits("platform", report.platform_info, policy.platform_info),
        _check_machine(report, key, policy),
        AtLeast("guest SVN", policy.minimum_guest_svn, _MANIFEST).check(report.guest_svn),
        OneOf("id key", policy.id_key_digests, _MANIFEST).check(report.id_key_digest),
        OneOf("author key", policy.author_key_digests, _MANIFEST).check(report.author_key_digest),
        OneOf("family id", policy.family_ids, _MANIFEST).check(report.family_id),
        OneOf("image id", policy.image_ids, _MANIFEST).check(report.image_id),
        OneOf("host data", policy.host_data, _MANIFEST).check(report.host_data),
    ]


def _check_launch_digest(report: Report, references: Sequence[SnpReference]) -> Check:
    name = "launch digest"
    for reference in references:
        if reference.launch_digest == report.measurement:
            source = f"{_MANIFEST}, shape {reference.shape}"
            return Equals(name, reference.launch_digest, source).check(report.measurement)
    digests = [reference.launch_digest for reference in references]
    return OneOf(name, digests, _MANIFEST).check(report.measurement)


def _check_guest_policy(report: Report, policy: SnpPolicy) -> Iterator[Check]:
    for bit, opt_out in OPT_OUT_BITS.items():
        name = f"guest policy: {bit_name(bit)}"
        claim: Claim = Equals(name, "clear", _MANIFEST)
        if opt_out in policy.opt_outs:
            claim = InsecureAny(name, opt_out, _MANIFEST)
        yield claim.check(_state(bit, report.policy))
    yield from _check_bits("guest policy", report.policy, policy.guest_policy)


def _check_bits(
    what: str, seen: GuestPolicy | PlatformInfo, wanted: Bits[GuestPolicy] | Bits[PlatformInfo]
) -> Iterator[Check]:
    """One check for each bit that has a reference value or an opt-out."""
    for bit in type(seen):
        name = f"{what}: {bit_name(bit)}"
        if bit & wanted.insecure_any:
            yield InsecureAny(name, "insecure_any", _MANIFEST).check(_state(bit, seen))
        elif bit & (wanted.set | wanted.clear):
            yield Equals(name, _state(bit, wanted.set), _MANIFEST).check(_state(bit, seen))


def _check_tcbs(key: EndorsementKey, tcbs: Tcbs, policy: SnpPolicy) -> Iterator[Check]:
    accepted = [product.value for product in policy.minimum_tcb]
    yield OneOf("product", accepted, _MANIFEST).check(key.product.value)
    minimum = policy.minimum_tcb.get(key.product)
    for name, seen in (
        ("reported", tcbs.reported),
        ("committed", tcbs.committed),
        ("current", tcbs.current),
        ("launch", tcbs.launch),
    ):
        yield _check_tcb(f"{name} TCB", minimum, seen)


def _check_tcb(name: str, minimum: Tcb | None, seen: Tcb) -> Check:
    if minimum is None:
        return Check(name, "a product with a minimum", str(seen), False, _MANIFEST)
    passed = seen.at_least(minimum)
    return Check(name, f"each at least: {minimum}", str(seen), passed, _MANIFEST)


def _check_mitigations(report: Report, policy: SnpPolicy) -> Iterator[Check]:
    for name, seen in (
        ("launch mitigations", report.launch_mitigations),
        ("current mitigations", report.current_mitigations),
    ):
        passed = (seen or 0) & policy.mitigations == policy.mitigations
        shown = "none stated" if seen is None else f"{seen:#x}"
        yield Check(name, f"the bits {policy.mitigations:#x}", shown, passed, _MANIFEST)


def _check_machine(report: Report, key: EndorsementKey, policy: SnpPolicy) -> Check:
    """Whose machine it is: one of these clouds, or one of these chips."""
    if key.csp_id is not None:
        return OneOf("cloud", policy.csp_ids, _MANIFEST).check(key.csp_id)
    claim: Claim = OneOf("chip", policy.chip_ids, _MANIFEST)
    if OptOut.ANY_CHIP in policy.opt_outs:
        claim = InsecureAny("chip", OptOut.ANY_CHIP, _MANIFEST)
    return claim.check(report.chip_id)


def _state(bit: GuestPolicy | PlatformInfo, flags: GuestPolicy | PlatformInfo) -> str:
    return "set" if bit & flags else "clear"
