"""What the committed production policy accepts, and that each of its floors has a source."""

from __future__ import annotations

import json
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from confide.encoding.canonical import json_encode
from confide.errors import FormatError
from confide.host.policy_file import PolicyFile
from confide.vendors.amd.report import GuestPolicy, PlatformInfo, Product

RELEASE = Path(__file__).resolve().parents[3] / "release"
POLICY = "policy.json"


def value() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RELEASE / POLICY).read_bytes())
    return found


def test_one_encoding() -> None:
    data = (RELEASE / POLICY).read_bytes()
    assert PolicyFile.parse(data).encode() == data


def test_it_opts_out_of_nothing_and_names_no_machine() -> None:
    """Whose machines are accepted is for a site to say."""
    assert "insecure_" not in json.dumps({k: v for k, v in value().items() if k != "gpus"}), (
        "an opt-out"
    )
    policy = PolicyFile.parse((RELEASE / POLICY).read_bytes())
    assert policy.platforms.tdx and not policy.platforms.tdx.platform_instances
    assert policy.platforms.snp and not policy.platforms.snp.chip_ids
    assert not policy.gpus["worker-gpu"].opt_outs


def test_floors() -> None:
    policy = PolicyFile.parse((RELEASE / POLICY).read_bytes())
    assert policy.platforms.tdx and policy.platforms.snp
    assert policy.platforms.tdx.minimum_tcb_evaluation_data_number == 21
    (genoa,) = policy.platforms.snp.products.values()
    assert genoa.minimum_tcb.product is Product.GENOA, "others have no floor that can be cited"
    assert genoa.minimum_tcb.components == (10, 0, 28, 88)
    assert genoa.mitigations == 15


def test_the_safer_bits_are_accepted_and_nothing_else() -> None:
    policy = PolicyFile.parse((RELEASE / POLICY).read_bytes())
    assert policy.platforms.snp
    genoa = policy.platforms.snp.products[Product.GENOA]
    guest, info = GuestPolicy, PlatformInfo
    assert set(genoa.guest_policy) == sums(
        guest(0),
        guest.SMT,
        guest.RAPL_DISABLED,
        guest.CIPHERTEXT_HIDING,
        guest.PAGE_SWAP_DISABLED,
    )
    assert set(genoa.platform_info) == sums(
        info.ECC | info.ALIAS_CHECK,
        info.SMT,
        info.RAPL_DISABLED,
        info.CIPHERTEXT_HIDING,
        info.IOMMU_WRITE_SAFE,
    )


def sums(always: int, *each: int) -> set[int]:
    """`always` with any of the others."""
    some = (chosen for count in range(len(each) + 1) for chosen in combinations(each, count))
    return {always | sum(chosen) for chosen in some}


def test_a_gpu_worker_has_one_hopper_gpu() -> None:
    gpus = PolicyFile.parse((RELEASE / POLICY).read_bytes()).gpus["worker-gpu"]
    assert list(gpus.architectures) == ["hopper"]
    assert (gpus.minimum_count, gpus.maximum_count, gpus.modes) == (1, 1, ("single-gpu",))
    shapes = json.loads((RELEASE.parent / "images/shapes-gpu.json").read_bytes())
    assert [machine["gpus"] for machine in shapes["tdx"]] == [1]


@pytest.mark.parametrize("name", ["shapes.json", "shapes-gpu.json"])
def test_nothing_is_measured_for_milan(name: str) -> None:
    assert "Milan" not in (RELEASE.parent / "images" / name).read_text()


def test_dates_are_days() -> None:
    policy = PolicyFile.parse((RELEASE / POLICY).read_bytes())
    reviewed = date.fromisoformat(policy.date)
    for sources in policy.sources.values():
        assert all(date.fromisoformat(source.date) <= reviewed for source in sources.values())


def _drop(*path: str) -> Any:
    def change(policy: dict[str, Any]) -> None:
        for step in path[:-1]:
            policy = policy[step]
        del policy[path[-1]]

    return change


def _raise_snp(policy: dict[str, Any]) -> None:
    policy["platforms"]["sev-snp"]["products"]["genoa"]["minimum_tcb"]["snp"] = 29


def _add_turin(policy: dict[str, Any]) -> None:
    products = policy["platforms"]["sev-snp"]["products"]
    products["turin"] = products["genoa"] | {
        "minimum_tcb": {"fmc": 1, "bootloader": 1, "tee": 1, "snp": 4, "microcode": 81}
    }


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_drop("sources", "tdx"), "tdx"),
        (_drop("sources", "tdx", "minimum_tcb_evaluation_data_number"), "tdx"),
        (_drop("sources", "sev-snp genoa", "mitigations"), "sev-snp genoa"),
        (_drop("platforms", "sev-snp", "products", "genoa"), "sev-snp genoa"),
        (_raise_snp, "sev-snp genoa"),
        (_add_turin, "sev-snp turin"),
    ],
)
def test_a_floor_without_its_source_is_refused(change: Any, named: str) -> None:
    policy = value()
    change(policy)
    with pytest.raises(FormatError, match=f"sources of the policy for {named}") as caught:
        PolicyFile.parse(json_encode(policy))
    assert caught.value.code == "uncited-floor"
