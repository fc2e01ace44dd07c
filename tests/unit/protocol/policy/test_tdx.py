"""The TDX policy and references of a manifest: all of it, in one encoding, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from confide.encoding.canonical import json_decode, json_encode
from confide.encoding.messages import from_map, to_map
from confide.errors import FormatError
from confide.protocol.policy.tdx import OptOut, TdxPolicy, TdxReference
from confide.vendors.intel.collateral import TcbStatus
from tests.support.simulated_intel import POLICY, REFERENCE

FULL_POLICY = TdxPolicy(
    attributes=POLICY.attributes,
    xfam=POLICY.xfam,
    mrseam=(b"\1" * 48, b"\2" * 48),
    mrowners=(b"\4" * 48, bytes(48)),
    mrownerconfigs=(b"\5" * 48,),
    fmspcs=(b"\6" * 6,),
    platform_instances=(b"\7" * 16,),
    tcb_statuses=tuple(status for status in TcbStatus if status is not TcbStatus.REVOKED),
    advisories=("INTEL-SA-00001",),
    minimum_tcb_evaluation_data_number=1,
    opt_outs=frozenset({OptOut.ALLOW_DEBUG, OptOut.ALLOW_SEPT_VE}),
)
LISTS = [
    "mrseam",
    "mrowners",
    "mrownerconfigs",
    "fmspcs",
    "platform_instances",
    "tcb_statuses",
    "advisories",
    "opt_outs",
]


@pytest.mark.parametrize("policy", [POLICY, FULL_POLICY], ids=["short", "full"])
def test_policy_there_and_back(policy: TdxPolicy) -> None:
    value = json_decode(json_encode(to_map(policy)), what="policy")
    assert from_map(TdxPolicy, value, "policy") == policy


def test_the_manifest_s_own_hash_cannot_be_listed() -> None:
    """MRCONFIGID follows from the manifest's bytes; a policy of before then is refused by name."""
    value = to_map(POLICY) | {"mrconfigids": ["00" * 48]}
    with pytest.raises(FormatError, match="mrconfigids"):
        from_map(TdxPolicy, value, "policy")


def test_empty_lists_stay_empty() -> None:
    value = to_map(FULL_POLICY) | {name: [] for name in LISTS}
    policy = from_map(TdxPolicy, value, "policy")
    assert all(len(getattr(policy, name)) == 0 for name in LISTS)
    assert to_map(policy) == value


def test_any_platform_goes_with_no_list() -> None:
    value = to_map(FULL_POLICY) | {"opt_outs": ["insecure_any_platform"]}
    with pytest.raises(FormatError, match="because of insecure_any_platform"):
        from_map(TdxPolicy, value, "policy")
    from_map(TdxPolicy, value | {"platform_instances": []}, "policy")


@pytest.mark.parametrize(
    "names",
    [
        ["insecure_allow_sept_ve", "insecure_allow_debug"],
        ["insecure_allow_debug", "insecure_allow_debug"],
        ["insecure_any"],
        ["allow_debug"],
        [["insecure_allow_debug"]],
    ],
)
def test_names_have_one_order(names: list[Any]) -> None:
    with pytest.raises(FormatError):
        from_map(TdxPolicy, to_map(FULL_POLICY) | {"opt_outs": names}, "policy")


@pytest.mark.parametrize("name", sorted(to_map(FULL_POLICY)))
@pytest.mark.parametrize("other", [None, False, "x", -1, {}, [1], ["x"], "any", {"mask": "0x1"}])
def test_policy_of_another_form(name: str, other: object) -> None:
    with pytest.raises(FormatError):
        from_map(TdxPolicy, to_map(FULL_POLICY) | {name: other}, "policy")


@pytest.mark.parametrize(
    ("mask", "value"),
    [
        ("0x0000000000000000", "0x0000000000000000"),
        ("0x0000000000000001", "0x0000000000000002"),
        ("0x1", "0x1"),
        ("ffffffffffffffff", "0x0000000000000000"),
        ("00ffffffffffffffff", "0x0000000000000000"),
        ("0xFFFFFFFFFFFFFFFF", "0x0000000000000000"),
    ],
)
def test_mask_that_says_nothing(mask: str, value: str) -> None:
    rule = {"mask": mask, "value": value}
    with pytest.raises(FormatError):
        from_map(TdxPolicy, to_map(POLICY) | {"xfam": rule}, "policy")


def test_unknown_rule_is_refused() -> None:
    with pytest.raises(FormatError, match="unknown field"):
        from_map(TdxPolicy, to_map(POLICY) | {"insecure_any": True}, "policy")


def test_reference_there_and_back() -> None:
    value = to_map(REFERENCE)
    assert from_map(TdxReference, value, "reference") == REFERENCE
    for name in value:
        with pytest.raises(FormatError):
            from_map(
                TdxReference, {key: item for key, item in value.items() if key != name}, "reference"
            )
        with pytest.raises(FormatError):
            from_map(TdxReference, value | {name: "Not a name, not 48 bytes"}, "reference")
