"""Which items of collateral a manifest leaves any use for, by their names.

Anybody may bring items, and vendors sign more of them than a program can keep: some for each chip
that they ever made. So a holder keeps those that a verification by its manifest can take: of an
accepted product, a listed chip, an accepted kind of platform, an accepted driver.
"""

from __future__ import annotations

import re
from enum import StrEnum

from confide.errors import FormatError
from confide.protocol.manifest import Manifest
from confide.protocol.policy import gpu, snp, tdx
from confide.vendors.amd.report import Product, Tcb
from confide.vendors.intel.pcs import PckCa
from confide.verify.collateral import vcek_name
from confide.verify.nvidia.device import CHIPS

_HEX_TCB = re.compile("[0-9a-f]{16}")
_HEX_CHIP = re.compile("[0-9a-f]{16}|[0-9a-f]{128}")
_HEX_FMSPC = re.compile("[0-9a-f]{12}")
_HEX_DIGEST = re.compile("[0-9a-f]{64}")
_DRIVER_RIM = re.compile("NV_GPU_(CC_)?DRIVER_([A-Z0-9]+)_([0-9.]+)")
_VBIOS_RIM = re.compile("NV_GPU_VBIOS(?:_[0-9A-Z.]+){3}_([0-9A-F]{10})")
_HOPPER_CHIP = "GH100"


class Kind(StrEnum):
    """What items are alike in: how many of them there can be, and so what they may take up."""

    NAMED = "lists and issuers, each under a name of its own"
    VCEK = "certificates of chips"
    TCB_INFO = "TCB infos"
    RIM = "RIMs"
    OCSP = "OCSP answers"


class Needs:
    """What the roles of one manifest can need.

    Attributes:
        snp: the policy for SEV-SNP machines, None if no role may run on one.
        tdx: the policy for TDX machines, None if no role may run on one.
        gpus: the policies of roles with GPUs.
    """

    def __init__(self, manifest: Manifest) -> None:
        roles, platforms = manifest.roles.values(), manifest.platforms
        self.snp = platforms.snp if any(role.snp for role in roles) else None
        self.tdx = platforms.tdx if any(role.tdx for role in roles) else None
        self.gpus = tuple(role.gpus for role in roles if role.gpus is not None)

    def kind(self, name: str) -> Kind | None:
        """What kind of item has this name; None if no verification can take it."""
        match name.split("/"):
            case ["amd", "vcek", product, chip, tcb]:
                return Kind.VCEK if self._takes_vcek(product, chip, tcb) else None
            case ["amd", product, part]:
                return Kind.NAMED if self._takes_amd(product, part) else None
            case ["intel", "tcb-info", fmspc]:
                return Kind.TCB_INFO if self._takes_fmspc(fmspc) else None
            case ["intel", "qe-identity"]:
                return Kind.NAMED if self.tdx is not None else None
            case ["intel", "crl", issuer]:
                return Kind.NAMED if self._takes_intel_list(issuer) else None
            case ["nvidia", "rim", rim_id]:
                return Kind.RIM if any(_takes_rim(policy, rim_id) for policy in self.gpus) else None
            case ["nvidia", "ocsp", certificate]:
                return Kind.OCSP if self.gpus and _HEX_DIGEST.fullmatch(certificate) else None
        return None

    def _takes_amd(self, product: str, part: str) -> bool:
        if self.snp is None or product not in {accepted.value for accepted in self.snp.products}:
            return False
        match part:
            case "ark":
                return True
            case "ask":
                return bool(self.snp.chip_ids) or snp.OptOut.ANY_CHIP in self.snp.opt_outs
            case "asvk":
                return bool(self.snp.csp_ids)
            case "crl":
                return snp.OptOut.WITHOUT_REVOCATION not in self.snp.opt_outs
        return False

    def _takes_vcek(self, name: str, chip: str, tcb: str) -> bool:
        policy = self.snp
        if policy is None or not self._takes_amd(name, "ask") or not _HEX_TCB.fullmatch(tcb):
            return False
        product, version = Product(name), bytes.fromhex(tcb)
        try:
            seen = Tcb.parse(version, product)
        except FormatError:
            return False
        if not seen.at_least(policy.products[product].minimum_tcb):
            return False
        if snp.OptOut.ANY_CHIP in policy.opt_outs:
            return bool(_HEX_CHIP.fullmatch(chip))
        wanted = f"amd/vcek/{name}/{chip}/{tcb}"
        return any(vcek_name(product, listed, version) == wanted for listed in policy.chip_ids)

    def _takes_fmspc(self, fmspc: str) -> bool:
        if self.tdx is None or not _HEX_FMSPC.fullmatch(fmspc):
            return False
        return self.tdx.fmspcs is None or bytes.fromhex(fmspc) in self.tdx.fmspcs

    def _takes_intel_list(self, issuer: str) -> bool:
        """A platform has an instance id only if the platform CA certified it."""
        if self.tdx is None:
            return False
        if issuer == PckCa.PROCESSOR:
            return tdx.OptOut.ANY_PLATFORM in self.tdx.opt_outs
        return issuer in ("root", PckCa.PLATFORM)


def takes_version(policy: gpu.GpuPolicy, chip: str, what: str, version: str) -> bool:
    """Whether the policy accepts this version of "driver" or "vbios" for GPUs with this chip."""
    rules = policy.architectures.get(CHIPS.get(chip, ""))
    if rules is None:
        return False
    return (rules.driver if what == "driver" else rules.vbios).accepts(version)


def _takes_rim(policy: gpu.GpuPolicy, rim_id: str) -> bool:
    if match := _DRIVER_RIM.fullmatch(rim_id):
        for_others, chip, version = match.groups()
        return (
            gpu.OptOut.WITHOUT_DRIVER_RIM not in policy.opt_outs
            and bool(for_others) == (chip != _HOPPER_CHIP)
            and takes_version(policy, chip, "driver", version)
        )
    if match := _VBIOS_RIM.fullmatch(rim_id):
        digits = match[1]
        version = ".".join(digits[at : at + 2] for at in range(0, len(digits), 2))
        return gpu.OptOut.WITHOUT_VBIOS_RIM not in policy.opt_outs and any(
            takes_version(policy, chip, "vbios", version) for chip in CHIPS
        )
    return False
