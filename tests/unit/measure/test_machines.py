"""images/shapes.json: the published one is read, and each malformed one refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measure import machines, shapes
from measure.errors import FormatError, MeasureError
from measure.tdx.start import Start

IMAGES = Path(__file__).parents[3] / "images"


def minimal() -> dict[str, Any]:
    return {
        "format": "confide-shapes/1",
        "vtpm": ["ovmf-disk"],
        "sev-snp": [
            {"vmm": "qemu", "vcpu_type": "EPYC-Milan", "vcpus": [1, 2], "guest_features": 1}
        ],
        "tdx": [
            {
                "name": "qemu-2", "vcpus": 2, "disks": 1, "gpus": 0, "machine": "q35",
                "memory_mib": 2048, "edk2": "2026.08", "page_order": "single-pass",
                "attributes": "0x10000000", "xfam": "0x3", "boot": "direct",
            }
        ],
    }  # fmt: skip


def parse(value: Any) -> machines.Machines:
    return machines.parse(json.dumps(value).encode(), "shapes.json")


@pytest.mark.parametrize(("name", "gpus"), [("shapes", {0}), ("shapes-gpu", {1})])
def test_the_published_machines(name: str, gpus: set[int]) -> None:
    published = machines.parse((IMAGES / f"{name}.json").read_bytes(), name)
    assert shapes.OVMF_DISK in published.vtpm
    assert len(published.vtpm) + len(published.sev_snp) + len(published.tdx) >= 16
    assert {s.vcpu_type for s in published.sev_snp} == {"EPYC-Genoa", "EPYC-Turin"}
    assert {s.guest_features for s in published.sev_snp} == {1}
    assert {s.start.gpus for s in published.tdx if s.start} == gpus


def test_one_machine_for_each_number_of_vcpus() -> None:
    found = parse(minimal())
    assert [s.name for s in found.sev_snp] == ["qemu-epyc-milan-1", "qemu-epyc-milan-2"]
    assert [(s.name, s.start) for s in found.tdx] == [("qemu-2", Start(2, 1, 0, "q35"))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(format="confide-shapes/2"), "expected confide-shapes/1"),
        (lambda v: v.pop("tdx"), "has no field 'tdx'"),
        (lambda v: v.update(more=[]), "unknown field; seen 'more'"),
        (lambda v: v.update(vtpm="ovmf-disk"), "'vtpm' is wrong; expected list, seen str"),
        (lambda v: v.update(vtpm=["bochs"]), "'vtpm' is wrong; expected ovmf-disk or"),
        (lambda v: v.update(vtpm=[["ovmf-disk"]]), "'vtpm' is wrong; expected str"),
        (lambda v: v["vtpm"].append("ovmf-disk"), "twice; seen ovmf-disk"),
        (lambda v: v["sev-snp"].append(v["sev-snp"][0]), "twice; seen qemu-epyc-milan-1"),
        (lambda v: v["tdx"].append(v["tdx"][0]), "twice; seen qemu-2"),
        (lambda v: v["sev-snp"][0].pop("guest_features"), "has no field 'guest_features'"),
        (lambda v: v["sev-snp"][0].update(vmm="xen"), "'vmm' is wrong; expected qemu or"),
        (lambda v: v["sev-snp"][0].update(vmm=None), "'vmm' is wrong; expected str"),
        (
            lambda v: v["sev-snp"][0].update(vcpu_type="EPYC-Naples"),
            "'vcpu_type' is wrong",
        ),
        (lambda v: v["sev-snp"][0].update(vcpus=[0]), "'vcpus' is wrong; expected 1 to 255"),
        (lambda v: v["sev-snp"][0].update(vcpus=[256]), "'vcpus' is wrong"),
        (lambda v: v["sev-snp"][0].update(vcpus=[True]), "expected int, seen bool"),
        (lambda v: v["sev-snp"][0].update(vcpus=4), "'vcpus' is wrong; expected list"),
        (lambda v: v["sev-snp"][0].update(guest_features="0x1"), "'guest_features' is wrong"),
        (lambda v: v["sev-snp"][0].update(guest_features=0x20), "lack SEV-SNP itself"),
        (lambda v: v["tdx"][0].pop("vcpus"), "has no field 'vcpus'"),
        (lambda v: v["tdx"][0].update(disks="1"), "'disks' is wrong; expected int, seen str"),
        (lambda v: v["tdx"][0].pop("page_order"), "has no field 'page_order'"),
        (
            lambda v: v["tdx"][0].update(page_order="any"),
            "'page_order' is wrong",
        ),
        (lambda v: v["tdx"].append(1), "'tdx' is not a map; seen int"),
        (lambda v: v["tdx"][0].update(memory_mib=10**4299 - 1), "'memory_mib' is wrong"),
        (lambda v: v["tdx"][0].update(memory_mib=0), "'memory_mib' is wrong"),
        (lambda v: v["sev-snp"][0].update(vcpus=[*range(1, 256)] * 2), "too many machines"),
    ],
)
def test_malformed_machines(change: Any, message: str) -> None:
    value = minimal()
    change(value)
    with pytest.raises(MeasureError, match=message):
        parse(value)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[" * 100_000, b"x" * (2 << 20), b"\xff"])
def test_no_json_object(data: bytes) -> None:
    with pytest.raises(FormatError):
        machines.parse(data, "shapes.json")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.sampled_from(["format", "vtpm", "sev-snp", "tdx"]), anything)
def test_any_value_is_read_or_refused(field: str, value: Any) -> None:
    try:
        parse(minimal() | {field: value})
    except MeasureError:
        return


@given(st.sampled_from(["vmm", "vcpu_type", "vcpus", "guest_features"]), anything)
def test_any_value_in_a_machine_is_read_or_refused(field: str, value: Any) -> None:
    changed = minimal()
    changed["sev-snp"][0][field] = value
    changed["tdx"][0][field] = value
    try:
        parse(changed)
    except MeasureError:
        return
