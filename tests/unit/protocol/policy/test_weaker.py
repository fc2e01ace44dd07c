"""Weaker than the release's: a policy that accepts what that one refuses. A test per field."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from confide.host.policy_file import PolicyFile
from confide.protocol.policy import gpu, snp, tdx, weaker
from confide.protocol.policy.gpu import GpuPolicy, SoftwareRules, VersionRule
from confide.protocol.policy.snp import ProductPolicy, SnpPolicy
from confide.protocol.policy.tdx import Masked, TdxPolicy
from confide.vendors.amd.report import GuestPolicy, PlatformInfo, Product, Tcb
from confide.vendors.intel.collateral import TcbStatus

RELEASE = Path(__file__).resolve().parents[4] / "release"
FILE = PolicyFile.parse((RELEASE / "policy.json").read_bytes())
assert FILE.platforms.tdx and FILE.platforms.snp
TDX, SNP, GPUS = FILE.platforms.tdx, FILE.platforms.snp, FILE.gpus["worker-gpu"]
GENOA = SNP.products[Product.GENOA]
HOPPER = GPUS.architectures["hopper"]
MASK = 2**64 - 1
A, B = bytes(47) + b"a", bytes(47) + b"b"


def change(field: str, value: Any) -> dict[str, Any]:
    return {field: value}


def test_a_release_is_not_weaker_than_itself() -> None:
    assert not [*weaker.weaker_tdx(TDX, TDX)]
    assert not [*weaker.weaker_snp(SNP, SNP)]
    assert not [*weaker.weaker_gpus(GPUS, GPUS)]


@pytest.mark.parametrize(
    ("rules", "policy", "beside"),
    [
        (weaker.TDX, TdxPolicy, set()),
        (weaker.SNP, SnpPolicy, {"products"}),
        (weaker.PRODUCT, ProductPolicy, set()),
        (weaker.GPU, GpuPolicy, {"architectures"}),
        (weaker.SOFTWARE, SoftwareRules, set()),
    ],
)
def test_every_field_has_a_rule(rules: weaker.Rules, policy: type, beside: set[str]) -> None:
    """A field that comes later fails here until somebody decides."""
    assert {*rules} | beside == {field.name for field in fields(policy)}


def test_what_is_not_compared() -> None:
    """Machines are the site's; each opt-out has a word of its own."""
    own = {
        name
        for rules in (weaker.TDX, weaker.SNP, weaker.PRODUCT, weaker.GPU, weaker.SOFTWARE)
        for name, rule in rules.items()
        if rule is None
    }
    assert {name for name in own if not name.startswith("insecure_")} == {
        "chip_ids",
        "platform_instances",
        "opt_outs",
    }


TDX_CASES: list[tuple[str, Any, Any, Any]] = [
    # field, release, as strict or stricter, weaker
    ("attributes", Masked(0b110, 0b010), Masked(0b111, 0b010), Masked(0b010, 0b010)),
    ("attributes", Masked(0b110, 0b010), Masked(0b110, 0b010), Masked(0b110, 0b110)),
    ("xfam", Masked(0b110, 0b010), Masked(0b111, 0b011), Masked(0b010, 0b010)),
    ("xfam", Masked(0b110, 0b010), Masked(MASK, 0b010), Masked(MASK, 0b100)),
    ("mrseam", (A,), (A,), (A, B)),
    ("mrseam", (A,), (), None),
    ("mrowners", (A,), (), (B,)),
    ("mrownerconfigs", (A,), (A,), (A, B)),
    ("fmspcs", (A[-6:],), (), (B[-6:],)),
    ("fmspcs", (A[-6:],), (A[-6:],), None),
    (
        "tcb_statuses",
        (TcbStatus.UP_TO_DATE,),
        (),
        (TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE),
    ),
    ("advisories", ("INTEL-SA-1",), (), ("INTEL-SA-1", "INTEL-SA-2")),
    ("minimum_tcb_evaluation_data_number", 21, 22, 20),
]
SNP_CASES: list[tuple[str, Any, Any, Any]] = [
    ("vmpl", 0, 0, 1),
    ("vmpl", 1, 1, 0),
    ("minimum_guest_svn", 3, 4, 2),
    ("id_key_digests", (A,), (), (A, B)),
    ("author_key_digests", (A,), (A,), (B,)),
    ("family_ids", (A[-16:],), (), (B[-16:],)),
    ("image_ids", (A[-16:],), (A[-16:],), (A[-16:], B[-16:])),
    ("csp_ids", ("a",), (), ("a", "b")),
]
PRODUCT_CASES: list[tuple[str, Any, Any, Any]] = [
    ("mitigations", 0b101, 0b111, 0b001),
    (
        "guest_policy",
        (GuestPolicy(0), GuestPolicy.SMT),
        (GuestPolicy.SMT,),
        (GuestPolicy.SMT, GuestPolicy.CXL),
    ),
    ("platform_info", (PlatformInfo.ECC,), (), (PlatformInfo(0),)),
    *(
        (
            "minimum_tcb",
            Tcb(Product.GENOA, (5, 5, 5, 5)),
            Tcb(Product.GENOA, (5, 6, 5, 5)),
            Tcb(Product.GENOA, (*(9,) * at, 4, *(9,) * (3 - at))),
        )
        for at in range(4)
    ),
]
GPU_CASES: list[tuple[str, Any, Any, Any]] = [
    ("minimum_count", 2, 3, 1),
    ("maximum_count", 4, 3, 5),
    ("modes", ("single-gpu",), (), ("single-gpu", "multi-gpu")),
]


def at_least(version: str) -> VersionRule:
    return VersionRule(version, (), 10)


def exactly(*versions: str) -> VersionRule:
    return VersionRule(None, versions, 10)


SOFTWARE_CASES: list[tuple[str, Any, Any, Any]] = [
    (field, *versions)
    for field in ("driver", "vbios")
    for versions in (
        (at_least("2.1"), at_least("2.10"), at_least("2.0")),
        (at_least("2.1"), exactly("2.1", "3.0"), exactly("2.1", "2.0")),
        (at_least("2.1"), exactly(), exactly("1.9")),
        (exactly("2.1", "2.2"), exactly("2.1"), exactly("2.1", "2.3")),
        (exactly("2.1"), exactly("2.1"), at_least("2.1")),
    )
]


@pytest.mark.parametrize(("field", "release", "strict", "weak"), TDX_CASES)
def test_tdx(field: str, release: Any, strict: Any, weak: Any) -> None:
    floor = replace(TDX, **change(field, release))
    assert not [*weaker.weaker_tdx(replace(floor, **change(field, strict)), floor)]
    assert [*weaker.weaker_tdx(replace(floor, **change(field, weak)), floor)] == [field]


@pytest.mark.parametrize("field", ["mrseam", "fmspcs"])
def test_what_the_release_leaves_to_intel_may_be_listed(field: str) -> None:
    floor = replace(TDX, **change(field, None))
    assert not [*weaker.weaker_tdx(replace(floor, **change(field, (A,))), floor)]


@pytest.mark.parametrize(("field", "release", "strict", "weak"), SNP_CASES)
def test_snp(field: str, release: Any, strict: Any, weak: Any) -> None:
    floor = replace(SNP, **change(field, release))
    assert not [*weaker.weaker_snp(replace(floor, **change(field, strict)), floor)]
    assert [*weaker.weaker_snp(replace(floor, **change(field, weak)), floor)] == [field]


@pytest.mark.parametrize(("field", "release", "strict", "weak"), PRODUCT_CASES)
def test_snp_product(field: str, release: Any, strict: Any, weak: Any) -> None:
    def with_genoa(value: Any) -> SnpPolicy:
        return replace(SNP, products={Product.GENOA: replace(GENOA, **change(field, value))})

    assert not [*weaker.weaker_snp(with_genoa(strict), with_genoa(release))]
    found = [*weaker.weaker_snp(with_genoa(weak), with_genoa(release))]
    assert found == [f"products genoa {field}"]


def test_a_product_that_the_release_does_not_accept() -> None:
    turin = replace(GENOA, minimum_tcb=Tcb(Product.TURIN, (9, 9, 9, 9, 9)))
    own = replace(SNP, products={Product.GENOA: GENOA, Product.TURIN: turin})
    assert [*weaker.weaker_snp(own, SNP)] == ["products turin"]
    assert not [*weaker.weaker_snp(replace(SNP, products={}), SNP)]


@pytest.mark.parametrize(("field", "release", "strict", "weak"), GPU_CASES)
def test_gpus(field: str, release: Any, strict: Any, weak: Any) -> None:
    floor = replace(GPUS, **({"minimum_count": 1, "maximum_count": 8} | change(field, release)))
    assert not [*weaker.weaker_gpus(replace(floor, **change(field, strict)), floor)]
    assert [*weaker.weaker_gpus(replace(floor, **change(field, weak)), floor)] == [field]


@pytest.mark.parametrize(("field", "release", "strict", "weak"), SOFTWARE_CASES)
def test_gpu_software(field: str, release: Any, strict: Any, weak: Any) -> None:
    def with_hopper(value: Any) -> GpuPolicy:
        return replace(GPUS, architectures={"hopper": replace(HOPPER, **change(field, value))})

    assert not [*weaker.weaker_gpus(with_hopper(strict), with_hopper(release))]
    found = [*weaker.weaker_gpus(with_hopper(weak), with_hopper(release))]
    assert found == [f"architectures hopper {field}"]


def test_an_architecture_that_the_release_does_not_accept() -> None:
    own = replace(GPUS, architectures={"hopper": HOPPER, "blackwell": HOPPER})
    assert [*weaker.weaker_gpus(own, GPUS)] == ["architectures blackwell"]


def test_machines_and_opt_outs_are_not_compared() -> None:
    of_site = replace(TDX, platform_instances=(bytes(16),))
    assert not [*weaker.weaker_tdx(of_site, TDX)]
    assert not [*weaker.weaker_tdx(replace(TDX, opt_outs=frozenset(tdx.OptOut)), TDX)]
    assert not [*weaker.weaker_snp(replace(SNP, chip_ids=(b"a" * 64,)), SNP)]
    assert not [*weaker.weaker_snp(replace(SNP, opt_outs=frozenset(snp.OptOut)), SNP)]
    loose = replace(
        GPUS,
        opt_outs=frozenset(gpu.OptOut),
        insecure_ignored_measurements=(1,),
        insecure_revoked_grace_hours=1,
    )
    assert not [*weaker.weaker_gpus(loose, GPUS)]
