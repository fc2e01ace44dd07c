"""Collateral and policies for TDX are read strictly, and nothing makes their parsers crash."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.encoding.canonical import json_decode, json_encode
from confide.encoding.messages import from_map, to_map
from confide.errors import FormatError
from confide.protocol.policy.tdx import OptOut, TdxPolicy, TdxReference
from confide.vendors.intel.collateral import QeIdentity, TcbInfo, TcbStatus
from tests.support.parsing import parse_or_refuse
from tests.support.simulated_intel import (
    POLICY,
    REFERENCE,
    SVNS,
    compact,
    level,
    module,
    qe_identity,
    software,
    tcb_info,
)

# --- collateral ----------------------------------------------------------------------------------


def test_tcb_info() -> None:
    info = TcbInfo.parse(compact(tcb_info(level(advisories=["INTEL-SA-00001"]))))
    assert info.issue_date == 1779235200
    assert info.fmspc == bytes.fromhex("90c06f000000")
    assert info.levels[0].tdx_svns[:3] == bytes([5, 0, 3])
    assert info.levels[0].advisories == ("INTEL-SA-00001",)
    assert [m.id for m in info.module_identities] == ["TDX_01"]


def test_tcb_info_from_before_module_identities() -> None:
    value = tcb_info()
    del value["tdxModuleIdentities"]
    assert TcbInfo.parse(compact(value)).module_identities == ()


def test_qe_identity() -> None:
    identity = QeIdentity.parse(compact(qe_identity()))
    assert identity.attributes_mask == bytes.fromhex("FBFFFFFFFFFFFFFF0000000000000000")
    assert (identity.isv_prod_id, identity.levels[0].isv_svn) == (2, 4)


PARSERS = {
    "TCB info": (TcbInfo.parse, tcb_info()),
    "QE identity": (QeIdentity.parse, qe_identity()),
}


@pytest.mark.parametrize("what", PARSERS)
def test_each_field_is_required_and_no_other_is_known(what: str) -> None:
    parse, value = PARSERS[what]
    for name in value:
        without = {key: item for key, item in value.items() if key != name}
        if name == "tdxModuleIdentities":
            continue
        with pytest.raises(FormatError, match=f"no field '{name}'"):
            parse(compact(without))
        others: list[Any] = [None, [], {}, "x", -1, True, 1 << 70]
        for other in others:
            if other == [] and name == "tcbLevels":
                continue
            with pytest.raises(FormatError):
                parse(compact(value | {name: other}))
    with pytest.raises(FormatError, match="unknown field"):
        parse(compact(value | {"new": 1}))


@pytest.mark.parametrize(
    "change",
    [
        level(tdx=[256]),
        level(sgx=SVNS[:15]),
        level(sgx=[*SVNS, 0]),
        level(pce=65536),
        level("TDRelaunchAdvised"),
        level("UpToDate "),
        level(advisories=["INTEL-SA-1\n"]),
        level() | {"tcbDate": "2026-02-30T00:00:00Z"},
        level() | {"tcbDate": "2026-02-03T00:00:00+00:00"},
        level() | {"tcbDate": "2026-02-03"},
        level() | {"tcbDate": "20260203T000000Z"},
        level() | {"advisoryIDs": [1]},
        level() | {"unknown": 1},
    ],
)
def test_level_of_another_form(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        TcbInfo.parse(compact(tcb_info(change)))


def test_component_with_comments_and_the_largest_number() -> None:
    value = level(tdx=[255])
    comments = {"category": "OS/VMM", "type": "TDX Module"}
    value["tcb"]["tdxtcbcomponents"][0] |= comments
    assert TcbInfo.parse(compact(tcb_info(value))).levels[0].tdx_svns == b"\xff" + bytes(15)


def test_component_of_another_form() -> None:
    for component in ({"svn": 1, "other": 2}, {"category": "BIOS"}, [1], 1):
        value = level()
        value["tcb"]["sgxtcbcomponents"][3] = component
        with pytest.raises(FormatError):
            TcbInfo.parse(compact(tcb_info(value)))


def test_module_identity_of_another_form() -> None:
    good = module("TDX_01", software(1))
    for modules in (
        [good, good],
        [good | {"id": "TDX_1"}],
        [good | {"id": "SGX_01"}],
        [good | {"tcbLevels": [software(256)]}],
        [good | {"tcbLevels": [software(1, "SWHardeningNeeded")]}],
        [good | {"mrsigner": "00"}],
        [good | {"mrsigner": "zz" * 48}],
    ):
        with pytest.raises(FormatError):
            TcbInfo.parse(compact(tcb_info(tdxModuleIdentities=modules)))
    lower = [good | {"id": "tdx_0a"}]
    (known,) = TcbInfo.parse(compact(tcb_info(tdxModuleIdentities=lower))).module_identities
    assert known.id == "TDX_0A"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        compact(tcb_info())[:-1] + b',"id":"TDX"}',
        compact(tcb_info()).replace(b'"version":3', b'"version":3.0'),
        compact(tcb_info()).replace(b'"version":3', b'"version":NaN'),
        compact(tcb_info()).replace(b'"version":3', b'"version":' + b"[" * 100000),
        compact(tcb_info()).replace(b'"version":3', b'"version":' + b"9" * 5000),
        compact(tcb_info()) + b" " * (1 << 18),
    ],
    ids=range(9),
)
def test_json_of_another_form(data: bytes) -> None:
    with pytest.raises(FormatError):
        TcbInfo.parse(data)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, len(compact(tcb_info())) - 1), st.binary(min_size=1, max_size=6))
def test_any_change_of_tcb_info(at: int, new: bytes) -> None:
    value = compact(tcb_info())
    parse_or_refuse(lambda: TcbInfo.parse(value[:at] + new + value[at + len(new) :]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted(qe_identity())), JSON)
def test_any_value_of_any_field(name: str, value: object) -> None:
    parse_or_refuse(lambda: QeIdentity.parse(json.dumps(qe_identity() | {name: value}).encode()))


# --- policy --------------------------------------------------------------------------------------

FULL_POLICY = TdxPolicy(
    attributes=POLICY.attributes,
    xfam=POLICY.xfam,
    mrseam=(b"\1" * 48, b"\2" * 48),
    mrconfigids=(b"\3" * 48,),
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
    "mrconfigids",
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
