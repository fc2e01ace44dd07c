"""SIMULATED: a production service: its manifest, its machines' evidence, and all their collateral.

Every vendor in it is simulated; only a test that puts the simulated roots in the place of the real
ones (`pin`) believes it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from confide.encoding.canonical import json_encode
from confide.encoding.messages import to_map
from confide.encoding.pem import write_chain
from confide.protocol.collateral import Bundle, Item
from confide.protocol.evidence import Evidence
from confide.protocol.gpu import gpu_nonce
from confide.protocol.manifest import Manifest
from confide.protocol.validity import DAY
from confide.vendors.amd.report import Product
from confide.vendors.intel.collateral import TdxCollateral
from confide.vendors.intel.pck import PckExtension
from confide.verify import roots
from confide.verify.nvidia import verify_gpus
from tests.support import simulated_gpu
from tests.support.simulated_amd import (
    LAUNCH_DIGEST,
    TCBS,
    SimulatedChip,
    intermediate,
    make_crl,
    root,
    root_of,
)
from tests.support.simulated_gpu import SimulatedGpu, SimulatedNvidia
from tests.support.simulated_intel import EVENT_LOG, POLICY, REFERENCE, REPORT, SimulatedIntel
from tests.support.snp_policy import policy_json

MADE = 1_780_000_000


def manifest_value(**changes: Any) -> dict[str, Any]:
    """A production manifest that accepts the simulated machines, as a plain value."""
    machine = {
        "sev-snp": [{"shape": "simulated", "launch_digest": LAUNCH_DIGEST.hex()}],
        "tdx": [to_map(REFERENCE)],
    }
    gpus = to_map(simulated_gpu.policy())
    model = {"name": "large", "root_hash": "cd" * 32, "hash_offset": 4096}
    return {
        "format": "confide-manifest/4",
        "mode": "production",
        "platforms": {"sev-snp": policy_json(), "tdx": to_map(POLICY)},
        "roles": {
            "coordinator": machine,
            "secret-service": machine,
            "worker-gpu": machine | {"gpus": gpus},
        },
        "models": [model | {"tasks": ["chat"], "roles": ["worker-gpu"], "engine": {}}],
        "released": MADE - DAY,
        "expires": MADE + 365 * DAY,
        "update_keys": [],
        "recovery_keys": [],
    } | changes


def manifest(**changes: Any) -> Manifest:
    return Manifest.parse(json_encode(manifest_value(**changes)))


@dataclass
class Production:
    """One simulated vendor of each kind, and a machine of each, launched for `manifest()`."""

    chip: SimulatedChip = field(default_factory=SimulatedChip)
    intel: SimulatedIntel = field(default_factory=SimulatedIntel)
    nvidia: SimulatedNvidia = field(default_factory=SimulatedNvidia)
    gpu: SimulatedGpu = field(init=False)
    binding: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.gpu = self.nvidia.gpu()
        self.launch_for(manifest().encode())

    def launch_for(self, data: bytes) -> None:
        """Start the machines anew, for the manifest of these bytes."""
        self.binding = hashlib.sha256(data).digest()
        self.chip = self.chip.but(host_data=self.binding)

    def pin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the simulated roots in the place of the vendors'."""
        product = self.chip.product
        monkeypatch.setattr("confide.verify.snp.chain.ROOTS", {product: root_of(product)})
        monkeypatch.setattr(roots, "INTEL_SGX", self.intel.pinned)
        for name, pinned in zip(("NVIDIA_DEVICE", "NVIDIA_RIM"), self.nvidia.roots, strict=True):
            monkeypatch.setattr(roots, name, pinned)
        gpus = partial(verify_gpus, roots=self.nvidia.roots)
        monkeypatch.setattr("confide.verify.evidence.verify_gpus", gpus)

    def snp(self, report_data: bytes, *, certificates: int = 3) -> Evidence:
        """SEV-SNP evidence that comes with this many certificates."""
        evidence = self.chip.evidence(report_data)
        return replace(evidence, endorsements=evidence.endorsements[:certificates])

    def tdx(self, report_data: bytes) -> Evidence:
        bound = self.binding + bytes(16)
        report = replace(REPORT, report_data=report_data, mrconfigid=bound)
        return Evidence("tdx", self.intel.quote(report), (), EVENT_LOG)

    def with_gpu(self, evidence: Evidence, report_data: bytes) -> Evidence:
        """The evidence of the same machine, with its GPU's."""
        return replace(evidence, gpus=(self.gpu.evidence(gpu_nonce(report_data)),))

    def bundle(self) -> Bundle:
        """All that any of these machines needs."""
        chip = self.chip
        tcb = TCBS[chip.product].hex()
        vcek = f"amd/vcek/{chip.product.value}/{chip.hardware_id.hex()}/{tcb}"
        items = {
            vcek: Item(chip.certificate(), MADE),
            "amd/milan/ask": Item(intermediate().der, MADE),
            "amd/milan/ark": Item(root().der, MADE),
            "amd/milan/crl": Item(make_crl(issuer=root(Product.MILAN)), MADE),
        }
        return Bundle(items | self._intel() | self._nvidia())

    def _intel(self) -> dict[str, Item]:
        collateral: TdxCollateral = self.intel.collateral()
        fmspc = PckExtension.read(self.intel.pck.certificate).fmspc.hex()
        return {
            f"intel/tcb-info/{fmspc}": pcs_answer(
                "tcbInfo",
                collateral.tcb_info,
                collateral.tcb_info_signature,
                collateral.tcb_info_chain,
            ),
            "intel/qe-identity": pcs_answer(
                "enclaveIdentity",
                collateral.qe_identity,
                collateral.qe_identity_signature,
                collateral.qe_identity_chain,
            ),
            "intel/crl/root": Item(collateral.root_ca_crl, MADE),
            "intel/crl/platform": Item(
                collateral.pck_crl, MADE, chain=write_chain(self.intel.pck_chain[1:])
            ),
        }

    def _nvidia(self) -> dict[str, Item]:
        rims = {f"nvidia/rim/{k}": Item(v, MADE) for k, v in self.nvidia.rims(self.gpu).items()}
        items = dict(rims)
        for chain in (self.gpu.chain[1:], self.nvidia.rim_chain):
            for at, (certificate, issuer) in enumerate(pairwise(chain)):
                answer = self.nvidia.answer(certificate, issuer)
                name = f"nvidia/ocsp/{hashlib.sha256(certificate.der).hexdigest()}"
                above = write_chain(tuple(authority.der for authority in chain[at:]))
                items[name] = Item(answer.response, MADE, above, answer.nonce)
        return items


def pcs_answer(name: str, inner: bytes, signature: bytes, chain: tuple[bytes, ...]) -> Item:
    """As Intel's service answers: the signed object inside another, and its signers' chain."""
    body = b'{"%s":%s,"signature":"%s"}' % (name.encode(), inner, signature.hex().encode())
    return Item(body, MADE, chain=write_chain(chain))
