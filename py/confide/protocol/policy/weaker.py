"""Where a policy is weaker than the one of a release: where it accepts what that one refuses.

Each field is compared by itself; `TDX`, `SNP`, `PRODUCT`, `SOFTWARE` and `GPU` have its rule.

| rule | weaker, if |
|---|---|
| more | it lists a value that the release does not list |
| more or any | the same, or it leaves to Intel what the release lists |
| free | a bit that the release fixes is free, or has the other value |
| below, above | the number is smaller, or larger |
| another | the value is another one |
| missing | a bit that the release demands is not demanded |
| older | it accepts a version that the release refuses |
| TCB | a component may be older, or the product is another one |

Not compared (None): what names a machine, because a site lists its own (`chip_ids`,
`platform_instances`); and opt-outs, because each asks the person for a word of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from confide.protocol.policy.gpu import GpuPolicy, VersionRule
from confide.protocol.policy.snp import SnpPolicy
from confide.protocol.policy.tdx import Masked, TdxPolicy
from confide.vendors.amd.report import Tcb

Rule = Callable[[Any, Any], bool]
Rules = Mapping[str, Rule | None]


def _more(own: tuple[object, ...], release: tuple[object, ...]) -> bool:
    return not set(own) <= set(release)


def _more_or_any(own: tuple[bytes, ...] | None, release: tuple[bytes, ...] | None) -> bool:
    return release is not None and (own is None or _more(own, release))


def _free(own: Masked, release: Masked) -> bool:
    return release.mask & ~own.mask != 0 or own.value & release.mask != release.value


def _below(own: int, release: int) -> bool:
    return own < release


def _above(own: int, release: int) -> bool:
    return own > release


def _another(own: int, release: int) -> bool:
    return own != release


def _missing(own: int, release: int) -> bool:
    return release & ~own != 0


def _older(own: VersionRule, release: VersionRule) -> bool:
    if own.minimum is None:
        return not all(map(release.accepts, own.exact))
    return release.minimum is None or not release.accepts(own.minimum)


def _tcb(own: Tcb, release: Tcb) -> bool:
    return not own.at_least(release)


TDX: Rules = {
    "attributes": _free,
    "xfam": _free,
    "mrseam": _more_or_any,
    "mrowners": _more,
    "mrownerconfigs": _more,
    "fmspcs": _more_or_any,
    "platform_instances": None,
    "tcb_statuses": _more,
    "advisories": _more,
    "minimum_tcb_evaluation_data_number": _below,
    "opt_outs": None,
}
# `products` are compared one by one, with `PRODUCT`.
SNP: Rules = {
    "vmpl": _another,
    "minimum_guest_svn": _below,
    "id_key_digests": _more,
    "author_key_digests": _more,
    "family_ids": _more,
    "image_ids": _more,
    "chip_ids": None,
    "csp_ids": _more,
    "opt_outs": None,
}
PRODUCT: Rules = {
    "minimum_tcb": _tcb,
    "mitigations": _missing,
    "guest_policy": _more,
    "platform_info": _more,
}
# `architectures` are compared one by one, with `SOFTWARE`.
GPU: Rules = {
    "minimum_count": _below,
    "maximum_count": _above,
    "modes": _more,
    "insecure_ignored_measurements": None,
    "insecure_revoked_grace_hours": None,
    "opt_outs": None,
}
SOFTWARE: Rules = {"driver": _older, "vbios": _older}


def weaker_tdx(own: TdxPolicy, release: TdxPolicy) -> Iterator[str]:
    """The fields in which `own` accepts what `release` refuses."""
    return _fields(TDX, own, release)


def weaker_snp(own: SnpPolicy, release: SnpPolicy) -> Iterator[str]:
    """The same for SEV-SNP; "products genoa" is a product that `release` does not accept."""
    yield from _fields(SNP, own, release)
    named = {product.value: policy for product, policy in own.products.items()}
    released = {product.value: policy for product, policy in release.products.items()}
    yield from _entries("products", PRODUCT, named, released)


def weaker_gpus(own: GpuPolicy, release: GpuPolicy) -> Iterator[str]:
    """The same for the GPUs of one role."""
    yield from _fields(GPU, own, release)
    yield from _entries("architectures", SOFTWARE, own.architectures, release.architectures)


def _fields(rules: Rules, own: object, release: object) -> Iterator[str]:
    for name, rule in rules.items():
        if rule is not None and rule(getattr(own, name), getattr(release, name)):
            yield name


def _entries(
    field: str, rules: Rules, own: Mapping[str, object], release: Mapping[str, object]
) -> Iterator[str]:
    for name, entry in own.items():
        if name not in release:
            yield f"{field} {name}"
        else:
            yield from (f"{field} {name} {part}" for part in _fields(rules, entry, release[name]))
