"""Which names a manifest leaves any use for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from confide.protocol.manifest import Manifest
from confide.verify.items.needs import Needs
from tests.support.collateral_items import DRIVER_RIM, VBIOS_RIM
from tests.support.production import manifest, manifest_value
from tests.support.simulated_machine import manifest_bytes

CHIP, OTHER = bytes(range(1, 65)).hex(), "ee" * 64
TCB = "0102000000000304"
TURIN = "0901020300000004"
Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> Needs:
    value = copy.deepcopy(manifest_value())
    change(value)
    return Needs(manifest(**value))


def snp(**changes: Any) -> Change:
    return lambda value: value["platforms"]["sev-snp"].update(changes)


def tdx(**changes: Any) -> Change:
    return lambda value: value["platforms"]["tdx"].update(changes)


def gpus(**changes: Any) -> Change:
    return lambda value: value["roles"]["worker-gpu"]["gpus"].update(changes)


def no_role_on(platform: str) -> Change:
    return lambda value: [role.pop(platform, None) for role in value["roles"].values()]


def without_gpus(value: dict[str, Any]) -> None:
    del value["roles"]["worker-gpu"]
    value["models"] = []


def nothing(value: dict[str, Any]) -> None:
    """As it is."""


ANY_CHIP = snp(chip_ids=[], opt_outs=["insecure_any_chip"])
ANY_PLATFORM = tdx(platform_instances=[], opt_outs=["insecure_any_platform"])


@pytest.mark.parametrize(
    ("name", "taken", "change", "then"),
    [
        ("amd/genoa/ark", True, snp(products={}), False),
        ("amd/genoa/ask", True, snp(chip_ids=[]), False),
        ("amd/genoa/asvk", True, snp(csp_ids=[]), False),
        ("amd/genoa/crl", True, snp(opt_outs=["insecure_without_revocation"]), False),
        ("amd/genoa/crl", True, no_role_on("sev-snp"), False),
        ("amd/rome/crl", False, nothing, False),
        ("amd/genoa/other", False, nothing, False),
        (f"amd/vcek/milan/{CHIP}/{TCB}", True, snp(chip_ids=[OTHER]), False),
        (f"amd/vcek/milan/{OTHER}/{TCB}", False, ANY_CHIP, True),
        (f"amd/vcek/milan/{OTHER[:-1]}/{TCB}", False, ANY_CHIP, False),
        (f"amd/vcek/milan/{CHIP.upper()}/{TCB}", False, ANY_CHIP, False),
        (f"amd/vcek/milan/{CHIP}/{TCB[:-2]}03", False, ANY_CHIP, False),
        (f"amd/vcek/milan/{CHIP}/0102010000000304", False, ANY_CHIP, False),
        (f"amd/vcek/milan/{CHIP}/xx", False, ANY_CHIP, False),
        (f"amd/vcek/turin/{CHIP[:16]}/{TURIN}", True, snp(chip_ids=[OTHER]), False),
        (f"amd/vcek/turin/{CHIP}/{TURIN}", False, nothing, False),
        ("intel/qe-identity", True, no_role_on("tdx"), False),
        ("intel/crl/root", True, no_role_on("tdx"), False),
        ("intel/crl/platform", True, no_role_on("tdx"), False),
        ("intel/crl/processor", False, ANY_PLATFORM, True),
        ("intel/crl/other", False, ANY_PLATFORM, False),
        ("intel/tcb-info/90c06f000000", True, tdx(fmspcs=["00" * 6]), False),
        ("intel/tcb-info/90c06f000000", True, tdx(fmspcs=["90c06f000000"]), True),
        ("intel/tcb-info/90C06F000000", False, nothing, False),
        ("intel/tcb-info/90c06f000000", True, no_role_on("tdx"), False),
        (DRIVER_RIM, True, gpus(opt_outs=["insecure_without_driver_rim"]), False),
        (DRIVER_RIM, True, without_gpus, False),
        ("nvidia/rim/NV_GPU_CC_DRIVER_GH100_550.127.05", False, nothing, False),
        ("nvidia/rim/NV_GPU_CC_DRIVER_GB100_550.127.05", True, without_gpus, False),
        ("nvidia/rim/NV_GPU_DRIVER_GB100_550.127.05", False, nothing, False),
        ("nvidia/rim/NV_GPU_DRIVER_AD102_550.127.05", False, nothing, False),
        ("nvidia/rim/NV_GPU_DRIVER_GH100_535.1.1", False, nothing, False),
        (VBIOS_RIM, True, gpus(opt_outs=["insecure_without_vbios_rim"]), False),
        (VBIOS_RIM.replace("9F", "9E"), False, nothing, False),
        ("nvidia/rim/NV_SWITCH_BIOS_5612_0002_890_9610550001", False, nothing, False),
        (f"nvidia/ocsp/{'ab' * 32}", True, without_gpus, False),
        ("nvidia/ocsp/ab", False, nothing, False),
        ("nvidia/other/ab", False, nothing, False),
        ("", False, nothing, False),
    ],
)
def test_names(name: str, taken: bool, change: Change, then: bool) -> None:
    assert (changed(nothing).kind(name) is not None) == taken
    assert (changed(change).kind(name) is not None) == then


def test_a_development_manifest_has_no_use_for_any() -> None:
    needs = Needs(Manifest.parse(manifest_bytes()))
    for name in ("amd/genoa/crl", "intel/crl/root", DRIVER_RIM, f"nvidia/ocsp/{'ab' * 32}"):
        assert needs.kind(name) is None
