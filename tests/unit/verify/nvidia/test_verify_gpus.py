"""Each check on SIMULATED GPUs: a good one passes, and one thing wrong fails one named check."""

from __future__ import annotations

from dataclasses import replace

import pytest

from confide.errors import VerificationError
from confide.guest.coordinator.ca import Authority
from confide.protocol.gpu import GpuEvidence
from confide.vendors.nvidia.spdm import Field
from confide.verify.nvidia.collateral import GpuCollateral
from tests.support.judged import judge_gpus
from tests.support.simulated_gpu import (
    FWID,
    NONCE,
    NOW,
    SimulatedGpu,
    SimulatedNvidia,
    composite_fwid,
    issue,
    policy,
    tcb_info_fwids,
    verify,
)
from tests.support.verdicts import failed

DAY = 86400
DRIVER_RIM = "NV_GPU_DRIVER_GH100_550.127.05"
VBIOS_RIM = "NV_GPU_VBIOS_1010_0200_882_96009F0001"


def test_a_good_gpu(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    verdict = verify(nvidia, gpu)
    assert failed(verdict) == []
    verdict.require()
    assert len({check.name for check in verdict.checks}) == len(verdict.checks) == 35


@pytest.mark.parametrize("mode", ["single-gpu", "multi-gpu"])
def test_a_good_blackwell_gpu(nvidia: SimulatedNvidia, mode: str) -> None:
    flag = {"single-gpu": b"\0\0", "multi-gpu": b"\1\0"}[mode]
    gpu = nvidia.gpu(fwid=tcb_info_fwids(FWID, bytes(48)), chip="GB100").with_opaque(
        {Field.CHIP_INFO: b"GB100\0", Field.FEATURE_FLAG: flag, Field.PROTECTED_PCIE: None}
    )
    assert failed(verify(nvidia, gpu, modes=[mode])) == []
    assert failed(verify(nvidia, gpu, modes=[])) == ["GPU 0 confidential mode"]
    assert "NV_GPU_CC_DRIVER_GB100_550.127.05" in nvidia.rims(gpu)


def test_two_good_gpus(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    verdict = verify(nvidia, gpu, nvidia.gpu("GPU-1"), minimum_count=2, maximum_count=2)
    assert failed(verdict) == []


def test_no_gpu_where_one_is_wanted(nvidia: SimulatedNvidia) -> None:
    verdict = verify(nvidia)
    assert failed(verdict) == ["number of GPUs"]
    with pytest.raises(VerificationError, match="number of GPUs"):
        verdict.require()


def test_a_policy_made_by_hand_cannot_want_none(nvidia: SimulatedNvidia) -> None:
    wanted = replace(policy(), minimum_count=0)
    verdict = judge_gpus(
        [], nonce=NONCE, policy=wanted, collateral=GpuCollateral(), now=NOW, roots=nvidia.roots
    )
    assert failed(verdict) == ["number of GPUs"]


@pytest.mark.parametrize(("low", "high", "good"), [(1, 1, False), (2, 8, True), (3, 8, False)])
def test_number_of_gpus(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu, low: int, high: int, good: bool
) -> None:
    verdict = verify(nvidia, gpu, nvidia.gpu("GPU-1"), minimum_count=low, maximum_count=high)
    assert failed(verdict) == ([] if good else ["number of GPUs"])


def test_one_gpu_cannot_answer_for_two(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    verdict = verify(nvidia, gpu, gpu, minimum_count=2, maximum_count=2)
    assert failed(verdict) == ["GPUs are distinct"]


def test_one_gpu_with_two_names(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    other = replace(gpu, uuid="GPU-1")
    verdict = verify(nvidia, gpu, other, minimum_count=2, maximum_count=2)
    assert failed(verdict) == ["GPUs are distinct"]


def test_one_gpu_with_two_leaves(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    """A leaf is made at boot: the GPU is the certificate above it."""
    leaf = issue("GH100 A01 GSP FMC LF", gpu.chain[1], ca=False, extensions=[composite_fwid(FWID)])
    other = replace(gpu, uuid="GPU-1", chain=(leaf, *gpu.chain[1:]))
    verdict = verify(nvidia, gpu, other, minimum_count=2, maximum_count=2)
    assert failed(verdict) == ["GPUs are distinct"]


def test_two_gpus_with_one_name(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    verdict = verify(nvidia, gpu, nvidia.gpu("GPU-0"), minimum_count=2, maximum_count=2)
    assert failed(verdict) == ["GPUs are distinct"]


def test_a_report_for_another_nonce(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    assert failed(verify(nvidia, gpu, nonce=bytes(32))) == ["GPU 0 nonce"]


def test_an_empty_nonce_matches_nothing(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    assert failed(verify(nvidia, gpu, nonce=b"")) == ["GPU 0 nonce"]


def test_a_report_that_another_gpu_signed(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    spliced = GpuEvidence.of(gpu.device, nvidia.gpu().report()).encode()
    verdict = verify(nvidia, spliced, collateral=nvidia.collateral(gpu))
    assert failed(verdict) == ["GPU 0 report signature"]


def test_unreadable_evidence(nvidia: SimulatedNvidia) -> None:
    assert failed(verify(nvidia, b"", collateral=GpuCollateral())) == ["GPU 0 evidence"]


def test_a_root_of_the_same_name_is_not_the_root(nvidia: SimulatedNvidia) -> None:
    impostor = SimulatedNvidia()
    name = nvidia.device_root.certificate.subject
    assert impostor.device_root.certificate.subject == name
    gpu = impostor.gpu()
    assert failed(verify(nvidia, gpu, collateral=impostor.collateral(gpu))) == [
        "GPU 0 certificates root",
        f"{DRIVER_RIM} signer root",
        f"{VBIOS_RIM} signer root",
    ]


def chain_with(gpu: SimulatedGpu, at: int, authority: Authority) -> SimulatedGpu:
    return replace(gpu, chain=(*gpu.chain[:at], authority, *gpu.chain[at + 1 :]))


@pytest.mark.parametrize("at", range(1, 5))
def test_a_link_of_the_chain_is_exchanged(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu, collateral: GpuCollateral, at: int
) -> None:
    """By one with the same name and another key."""
    name = gpu.chain[at].certificate.subject.rfc4514_string()[3:]
    above = gpu.chain[at + 1] if at < 4 else None
    changed = chain_with(gpu, at, issue(name, above))
    assert "GPU 0 certificates chain" in failed(verify(nvidia, changed, collateral=collateral))


def test_a_chain_out_of_order(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    leaf, rom, provisioner, identity, root = gpu.chain
    changed = replace(gpu, chain=(leaf, rom, provisioner, root, identity))
    verdict = verify(nvidia, changed, collateral=nvidia.collateral(gpu))
    assert {"GPU 0 certificates root", "GPU 0 certificates chain"} <= set(failed(verdict))


def test_a_leaf_that_is_no_ca_cannot_issue(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    """Else the holder of one GPU's signing key could make GPUs."""
    extensions = [composite_fwid(FWID)]
    rom = issue("GH100 A01 GSP BROM", gpu.chain[2], ca=False)
    leaf = issue("GH100 A01 GSP FMC LF", rom, ca=False, extensions=extensions)
    changed = replace(gpu, chain=(leaf, rom, *gpu.chain[2:]))
    assert failed(verify(nvidia, changed)) == ["GPU 0 certificates chain"]


def test_a_ca_as_a_leaf(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    leaf = issue("GH100 A01 GSP FMC LF", gpu.chain[1], extensions=[composite_fwid(FWID)])
    assert failed(verify(nvidia, chain_with(gpu, 0, leaf))) == ["GPU 0 certificates chain"]


def test_a_path_that_is_too_long(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    short = issue("NVIDIA GH100 Provisioner ICA 1", nvidia.identity["GH100"], path_length=0)
    rom = issue("GH100 A01 GSP BROM", short)
    extensions = [composite_fwid(FWID)]
    leaf = issue("GH100 A01 GSP FMC LF", rom, ca=False, extensions=extensions)
    changed = replace(gpu, chain=(leaf, rom, short, *gpu.chain[3:]))
    verdict = verify(nvidia, changed)
    assert failed(verdict) == ["GPU 0 certificates chain"]


@pytest.mark.parametrize("when", [(NOW - 2 * DAY, NOW - 1), (NOW + 1, NOW + DAY)])
def test_a_leaf_of_another_time(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu, when: tuple[int, int]
) -> None:
    leaf = issue(
        "GH100 A01 GSP FMC LF",
        gpu.chain[1],
        ca=False,
        extensions=[composite_fwid(FWID)],
        start=when[0],
        end=when[1],
    )
    assert failed(verify(nvidia, chain_with(gpu, 0, leaf))) == ["GPU 0 certificates validity"]


def with_fwid(nvidia: SimulatedNvidia, gpu: SimulatedGpu, leaf_fwid: bytes) -> list[str]:
    leaf = issue(
        "GH100 A01 GSP FMC LF", gpu.chain[1], ca=False, extensions=[composite_fwid(leaf_fwid)]
    )
    return failed(verify(nvidia, chain_with(gpu, 0, leaf)))


def test_firmware_that_the_key_was_not_made_for(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    assert with_fwid(nvidia, gpu, bytes(47) + b"\1") == ["GPU 0 firmware id"]


def test_a_report_without_a_firmware_id(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    assert failed(verify(nvidia, gpu.with_opaque({Field.FWID: None}))) == ["GPU 0 firmware id"]


def test_all_zeros_is_no_firmware_id(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    zeros = gpu.with_opaque({Field.FWID: bytes(48)})
    assert with_fwid(nvidia, zeros, bytes(48)) == ["GPU 0 firmware id"]


def test_two_firmware_ids_are_not_one(nvidia: SimulatedNvidia) -> None:
    gpu = nvidia.gpu(fwid=tcb_info_fwids(FWID, FWID[::-1]))
    assert failed(verify(nvidia, gpu)) == ["GPU 0 firmware id"]


@pytest.mark.parametrize(
    ("flags", "name"), [(0x40, "not secure"), (0x20, "recovery"), (0x10, "debug")]
)
def test_a_gpu_that_admits_to_a_bad_state(nvidia: SimulatedNvidia, flags: int, name: str) -> None:
    gpu = nvidia.gpu(fwid=tcb_info_fwids(FWID, flags=bytes([flags, 0, 0, 1])))
    verdict = verify(nvidia, gpu)
    assert failed(verdict) == ["GPU 0 firmware state"]
    assert verdict.first_failed is not None
    assert verdict.first_failed.seen == name


def test_an_architecture_that_the_manifest_does_not_list(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu
) -> None:
    verdict = verify(nvidia, gpu, architectures={})
    assert failed(verdict) == [
        "GPU 0 architecture",
        "GPU 0 driver version",
        "GPU 0 VBIOS version",
    ]


def test_a_chip_that_calls_itself_another(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    """The architecture is the machine's word, the chip NVIDIA's."""
    verdict = verify(nvidia, replace(gpu, architecture="blackwell"))
    assert "GPU 0 chip" in failed(verdict)


def test_a_report_that_names_another_chip(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> None:
    assert failed(verify(nvidia, gpu.with_opaque({Field.CHIP_INFO: b"GB100\0"}))) == ["GPU 0 chip"]


@pytest.mark.parametrize(
    "fields",
    [
        {Field.PROTECTED_PCIE: b"\xaa"},
        {Field.FEATURE_FLAG: b"\2\0"},
        {Field.PROTECTED_PCIE: b"\xaa", Field.FEATURE_FLAG: b"\0\0"},
    ],
)
def test_nvswitches_are_not_supported(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu, fields: dict[int, bytes]
) -> None:
    verdict = verify(nvidia, gpu.with_opaque(fields))
    assert failed(verdict) == ["GPU 0 confidential mode", "GPU 0 NVSwitch"]


@pytest.mark.parametrize("value", [b"\3\0", b"\xff", b"\1\0"])
def test_a_mode_that_is_not_listed(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu, value: bytes
) -> None:
    changed = gpu.with_opaque({Field.FEATURE_FLAG: value})
    assert failed(verify(nvidia, changed)) == ["GPU 0 confidential mode"]


@pytest.mark.parametrize(
    "fields",
    [
        {Field.PROTECTED_PCIE: None},
        {Field.PROTECTED_PCIE: b"\x54"},
        {Field.FEATURE_FLAG: b"\0" * 3},
    ],
)
def test_an_unstated_mode(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu, fields: dict[int, bytes | None]
) -> None:
    assert failed(verify(nvidia, gpu.with_opaque(fields))) == ["GPU 0 confidential mode"]


def test_an_unstated_mode_can_be_accepted_by_name(
    nvidia: SimulatedNvidia, gpu: SimulatedGpu
) -> None:
    opt_out = "insecure_accept_unstated_mode"
    unstated = gpu.with_opaque({Field.PROTECTED_PCIE: None})
    verdict = verify(nvidia, unstated, opt_outs=[opt_out])
    assert failed(verdict) == []
    (check,) = (c for c in verdict.checks if c.name == "GPU 0 confidential mode")
    assert opt_out in check.expected
    switched = gpu.with_opaque({Field.PROTECTED_PCIE: b"\xaa"})
    assert not verify(nvidia, switched, opt_outs=[opt_out]).passed
