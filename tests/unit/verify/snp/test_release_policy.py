"""The release's policy for SEV-SNP, on SIMULATED Genoa chips: what it accepts, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from confide.host.policy_file import PolicyFile
from confide.protocol.policy.snp import SnpPolicy
from confide.vendors.amd.report import GuestPolicy, PlatformInfo, Product
from confide.verify.verdict import Verdict
from tests.support.simulated_amd import SimulatedChip
from tests.support.verdicts import Verify, failed

FILE = Path(__file__).parents[4] / "release/policy.json"
FLOOR = bytes([10, 0, 0, 0, 0, 0, 28, 88])
CHIP = SimulatedChip(
    product=Product.GENOA,
    version=5,
    reported_tcb=FLOOR,
    committed_tcb=FLOOR,
    current_tcb=FLOOR,
    launch_tcb=FLOOR,
    mitigations=(15, 15),
)
SAFER_POLICY = (
    GuestPolicy.RAPL_DISABLED | GuestPolicy.CIPHERTEXT_HIDING | GuestPolicy.PAGE_SWAP_DISABLED
)
SAFER_PLATFORM = (
    PlatformInfo.RAPL_DISABLED | PlatformInfo.CIPHERTEXT_HIDING | PlatformInfo.IOMMU_WRITE_SAFE
)


@pytest.fixture
def judge(verify: Verify) -> Verify:
    """Verifies against the release's policy, for this chip."""
    policy = PolicyFile.parse(FILE.read_bytes()).platforms.snp
    assert isinstance(policy, SnpPolicy)
    policy = replace(policy, chip_ids=(CHIP.hardware_id,))

    def call(chip: SimulatedChip) -> Verdict:
        return verify(chip, policy=policy)

    return call


def test_hosts_that_are_set_up_more_safely(judge: Verify) -> None:
    judge(CHIP).require()
    for bit in SAFER_POLICY:
        judge(CHIP.but(policy=CHIP.policy | bit)).require()
    for info in SAFER_PLATFORM:
        judge(CHIP.but(platform_info=CHIP.platform_info | info)).require()
    judge(
        CHIP.but(
            policy=CHIP.policy & ~GuestPolicy.SMT | SAFER_POLICY,
            platform_info=CHIP.platform_info & ~PlatformInfo.SMT | SAFER_PLATFORM,
        )
    ).require()


@pytest.mark.parametrize(
    "bit", [GuestPolicy.SINGLE_SOCKET, GuestPolicy.CXL, GuestPolicy.AES_256_XTS]
)
def test_other_bits_of_the_guest_policy(judge: Verify, bit: GuestPolicy) -> None:
    assert failed(judge(CHIP.but(policy=CHIP.policy | bit))) == ["guest policy"]


@pytest.mark.parametrize(
    "bit", [PlatformInfo.TSME, PlatformInfo.ECC, PlatformInfo.ALIAS_CHECK, PlatformInfo.TIO]
)
def test_other_bits_of_the_platform(judge: Verify, bit: PlatformInfo) -> None:
    """Memory without ECC, aliases that nobody looked for, and what nobody has judged yet."""
    other = CHIP.but(platform_info=CHIP.platform_info ^ bit)
    assert failed(judge(other)) == ["platform information"]


@pytest.mark.parametrize("which", ["reported", "committed", "current", "launch"])
@pytest.mark.parametrize("at", [0, 6, 7])
def test_firmware_below_the_floor(judge: Verify, which: str, at: int) -> None:
    lower = FLOOR[:at] + bytes([FLOOR[at] - 1]) + FLOOR[at + 1 :]
    assert failed(judge(CHIP.but(**{f"{which}_tcb": lower}))) == [f"{which} TCB"]


@pytest.mark.parametrize("bit", range(4))
def test_a_mitigation_is_missing(judge: Verify, bit: int) -> None:
    less = 15 ^ 1 << bit
    assert failed(judge(CHIP.but(mitigations=(less, 15)))) == ["launch mitigations"]
    assert failed(judge(CHIP.but(mitigations=(15, less)))) == ["current mitigations"]


def test_reports_that_state_no_mitigations(judge: Verify) -> None:
    expected = ["launch mitigations", "current mitigations"]
    assert failed(judge(CHIP.but(version=3, mitigations=(0, 0)))) == expected


@pytest.mark.parametrize("product", [Product.MILAN, Product.TURIN])
def test_other_products(judge: Verify, product: Product) -> None:
    newest = bytes([255] * 4 + [0] * 3 + [255]) if product is Product.TURIN else FLOOR
    chip = CHIP.but(
        product=product,
        hardware_id=CHIP.hardware_id[:8] if product is Product.TURIN else CHIP.hardware_id,
        **{f"{which}_tcb": newest for which in ("reported", "committed", "current", "launch")},
    )
    names = failed(judge(chip))
    assert names == ["product", "chip"] if product is Product.TURIN else names == ["product"]
