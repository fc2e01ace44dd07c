"""A GPU's versions and measurements, and the vendor's reference values (RIMs) for them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from confide.vendors.nvidia.spdm import Field
from confide.verify.nvidia.collateral import GpuCollateral
from tests.support.simulated_gpu import (
    DRIVER_INDEXES,
    NOW,
    SimulatedGpu,
    SimulatedNvidia,
    issue,
    rim_tree,
    sign_rim,
    verify,
)
from tests.support.verdicts import failed

DAY = 86400
DRIVER_RIM = "NV_GPU_DRIVER_GH100_550.127.05"
VBIOS_RIM = "NV_GPU_VBIOS_1010_0200_882_96009F0001"


@pytest.mark.parametrize(
    ("driver", "good"),
    [
        ({"minimum": "550.127.05"}, True),
        ({"minimum": "550.128"}, False),
        ({"minimum": "550.90.07"}, True),  # numbers, not text: 127 is more than 90
        ({"exact": ["550.127.05"]}, True),
        ({"exact": ["550.127.5"]}, False),
        ({"exact": []}, False),
    ],
)
def test_driver_version(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu, driver: dict[str, object], good: bool
) -> None:
    architectures = {"hopper": {"driver": driver, "vbios": {"minimum": "0.0"}}}
    verdict = verify(nvidia, gpu, architectures=architectures)
    assert failed(verdict) == ([] if good else ["GPU 0 driver version"])


@pytest.mark.parametrize(
    ("vbios", "good"),
    [({"minimum": "96.00.9F.00.01"}, True), ({"minimum": "96.00.A0.00.00"}, False)],
)
def test_vbios_version(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu, vbios: dict[str, object], good: bool
) -> None:
    architectures = {"hopper": {"driver": {"minimum": "1.0"}, "vbios": vbios}}
    verdict = verify(nvidia, gpu, architectures=architectures)
    assert failed(verdict) == ([] if good else ["GPU 0 VBIOS version"])


@pytest.mark.parametrize("index", [0, 7, 12, 21, 35, 41])
def test_a_measurement_that_differs(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu, collateral: GpuCollateral, index: int
) -> None:
    changed = gpu.with_measurement(index, bytes(48))
    verdict = verify(nvidia, changed, collateral=collateral)
    what = "driver" if index in DRIVER_INDEXES else "VBIOS"
    assert failed(verdict) == [f"GPU 0 {what} measurements"]
    assert verdict.first_failed is not None
    assert f"other values at {index}" in verdict.first_failed.seen


def test_a_measurement_that_is_ignored_by_name(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu, collateral: GpuCollateral
) -> None:
    changed = gpu.with_measurement(9, bytes(48))
    verdict = verify(nvidia, changed, collateral=collateral, insecure_ignored_measurements=[9])
    assert failed(verdict) == []
    (check,) = (c for c in verdict.checks if c.name == "GPU 0 VBIOS measurements")
    assert "9 ignored because of insecure_ignored_measurements" in check.seen


@pytest.mark.parametrize(
    ("status", "good"), [(b"\x55", True), (b"\xaa", False), (b"\x54", False), (None, False)]
)
def test_index_35_counts_unless_the_decoder_is_off(
    nvidia: SimulatedNvidia,
    gpu: SimulatedGpu,
    collateral: GpuCollateral,
    status: bytes | None,
    good: bool,
) -> None:
    changed = gpu.with_measurement(35, bytes(48)).with_opaque({Field.NVDEC0_STATUS: status})
    verdict = verify(nvidia, changed, collateral=collateral)
    assert failed(verdict) == ([] if good else ["GPU 0 driver measurements"])


def test_a_report_with_too_few_measurements(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu, collateral: GpuCollateral
) -> None:
    changed = replace(gpu, measurements=gpu.measurements[:41])
    assert failed(verify(nvidia, changed, collateral=collateral)) == ["GPU 0 driver measurements"]


def with_rim(collateral: GpuCollateral, rim_id: str, xml: bytes | None) -> GpuCollateral:
    rims = {**collateral.rims, rim_id: xml}
    return replace(collateral, rims={k: v for k, v in rims.items() if v is not None})


@pytest.mark.parametrize(("rim_id", "what"), [(DRIVER_RIM, "driver"), (VBIOS_RIM, "VBIOS")])
def test_a_rim_that_is_not_there(
    nvidia: SimulatedNvidia,
    gpu: SimulatedGpu,
    collateral: GpuCollateral,
    rim_id: str,
    what: str,
) -> None:
    without = with_rim(collateral, rim_id, None)
    assert failed(verify(nvidia, gpu, collateral=without)) == [
        rim_id,
        f"GPU 0 {what} measurements",
    ]
    opt_out = f"insecure_without_{what.lower()}_rim"
    verdict = verify(nvidia, gpu, collateral=without, opt_outs=[opt_out])
    assert failed(verdict) == []
    assert any(opt_out in check.expected for check in verdict.checks)


def test_a_rim_where_one_of_several_digests_matches(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu, collateral: GpuCollateral
) -> None:
    digests = {i: [bytes(48), gpu.measurements[i]] for i in DRIVER_INDEXES}
    xml = nvidia.rim("550.127.05", digests)
    verdict = verify(nvidia, gpu, collateral=with_rim(collateral, DRIVER_RIM, xml))
    assert failed(verdict) == []


@pytest.mark.parametrize(("version", "product"), [("550.127.06", "GH100"), ("550.127.05", "GB100")])
def test_a_genuine_rim_for_something_else(
    nvidia: SimulatedNvidia,
    gpu: SimulatedGpu,
    collateral: GpuCollateral,
    version: str,
    product: str,
) -> None:
    digests = {i: [gpu.measurements[i]] for i in DRIVER_INDEXES}
    xml = nvidia.rim(version, digests, product=product)
    verdict = verify(nvidia, gpu, collateral=with_rim(collateral, DRIVER_RIM, xml))
    assert failed(verdict) == ["GPU 0 driver RIM"]


def test_the_driver_rim_does_not_serve_as_vbios_rim(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu, collateral: GpuCollateral
) -> None:
    twice = with_rim(collateral, VBIOS_RIM, collateral.rims[DRIVER_RIM])
    assert failed(verify(nvidia, gpu, collateral=twice)) == [
        "GPU 0 VBIOS RIM",
        "GPU 0 RIM indexes",
    ]


def test_two_rims_about_one_index(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu, collateral: GpuCollateral
) -> None:
    digests = {i: [gpu.measurements[i]] for i in (*DRIVER_INDEXES, 3)}
    xml = nvidia.rim("550.127.05", digests)
    verdict = verify(nvidia, gpu, collateral=with_rim(collateral, DRIVER_RIM, xml))
    assert failed(verdict) == ["GPU 0 RIM indexes"]
    assert verdict.first_failed is not None
    assert verdict.first_failed.seen == "in two: 3"


def test_a_rim_signer_whose_time_is_over(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu, collateral: GpuCollateral
) -> None:
    old = issue("HCC RIM L4 Signer", nvidia.rim_l3, ca=False, start=NOW - 9 * DAY, end=NOW - DAY)
    tree = rim_tree("550.127.05", {i: [gpu.measurements[i]] for i in DRIVER_INDEXES})
    chain = (old, *nvidia.rim_chain[1:])
    changed = with_rim(collateral, DRIVER_RIM, sign_rim(tree, chain))
    changed = replace(changed, ocsp=(*changed.ocsp, nvidia.answer(old, nvidia.rim_l3)))
    assert failed(verify(nvidia, gpu, collateral=changed)) == [f"{DRIVER_RIM} signer validity"]


def test_a_device_certificate_does_not_sign_rims(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu, collateral: GpuCollateral
) -> None:
    """The two roots are not one: a GPU's key must not be able to say what is right."""
    tree = rim_tree("550.127.05", {i: [gpu.measurements[i]] for i in DRIVER_INDEXES})
    changed = with_rim(collateral, DRIVER_RIM, sign_rim(tree, gpu.chain))
    assert f"{DRIVER_RIM} signer root" in failed(verify(nvidia, gpu, collateral=changed))


def test_an_empty_collateral(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    names = failed(verify(nvidia, gpu, collateral=GpuCollateral()))
    assert [name for name in names if name.startswith("revocation")] == [
        "revocation of CN=GH100 A01 GSP BROM",
        "revocation of CN=NVIDIA GH100 Provisioner ICA 1",
        "revocation of CN=NVIDIA GH100 Identity",
    ]
    assert {DRIVER_RIM, VBIOS_RIM} <= set(names)
