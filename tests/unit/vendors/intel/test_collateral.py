"""Intel's collateral is read strictly, and nothing makes its parsers crash."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.errors import FormatError
from confide.vendors.intel.collateral import QeIdentity, TcbInfo
from tests.support.intel_certificates import SVNS
from tests.support.parsing import parse_or_refuse
from tests.support.simulated_intel import compact, level, module, qe_identity, software, tcb_info


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
